/* Tokens and passwords on disk: made once, read back, checked. */
#ifndef BH_AGENT_SECRET_H
#define BH_AGENT_SECRET_H

#include "agent/setup.h"

/** bh_token_ensure(path, prefix, ret_token, size, err): read the token file, or make "<prefix><64
 * hex digits>", mode 0600. */
enum bh_code bh_token_ensure(const char *path, const char *prefix, char *ret_token, size_t size,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_passfile_find(text, user, ret_password): the password of ${user}'s line; false where there is
 * none. */
bool bh_passfile_find(struct bh_str text, const char *user, char ret_password[BH_SECRET_TEXT]);

/** bh_passfile_add(out, port, user, password): append a line for 127.0.0.1 and every database. */
void bh_passfile_add(struct bh_buf *out, uint16_t port, const char *user, const char *password);

#endif
