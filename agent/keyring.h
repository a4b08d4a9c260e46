/* The keyring's JSON, as `GET /v1/keyring` answers it. */
#ifndef BH_AGENT_KEYRING_H
#define BH_AGENT_KEYRING_H

#include "core/arena.h"
#include "core/error.h"
#include "core/str.h"
#include "snapshot/keyring.h"

/**
 * bh_keyring_read(text, arena, ret_keyring, err):
 * Read and check it.  BH_E_INVALID says which member is wrong, never its value;
 * ${ret_keyring} may hold keys also then: wipe it.
 */
enum bh_code bh_keyring_read(struct bh_str text, struct bh_arena *arena,
    struct bh_keyring *ret_keyring, struct bh_error *err) BH_MUSTCHECK;

#endif
