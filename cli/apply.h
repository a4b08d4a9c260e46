/* Making tenants as their files say: what `apply` and the first `up` share. */
#ifndef BH_CLI_APPLY_H
#define BH_CLI_APPLY_H

#include <jansson.h>

#include "cli/file.h"
#include "cli/http.h"

/* What became of one file. */
struct bh_applied {
    const struct bh_file *file;
    const char *result; /* "created" "changed" "unchanged" "failed" "running" */
    json_t *tenant;     /* as it is at the end, or NULL; owned */
};

/**
 * bh_apply(client, files, timeout_s, ret_applied):
 * Say what will happen, put every tenant, and follow the operations.
 * ${ret_applied} (an array of files->count in the client's arena, NULL where
 * nothing was begun) must be released by bh_apply_end.  Returns the exit code;
 * all messages were said.
 */
int bh_apply(struct bh_client *client, const struct bh_files *files, long timeout_s,
    struct bh_applied **ret_applied);
void bh_apply_end(struct bh_applied *applied, size_t count);

#endif
