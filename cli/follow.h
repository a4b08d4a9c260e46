/*
 * Following operations to their end, with their steps shown.
 */
#ifndef BH_CLI_FOLLOW_H
#define BH_CLI_FOLLOW_H

#include <jansson.h>

#include "cli/http.h"
#include "cli/progress.h"

struct bh_followed {
    const char *id;     /* op_… */
    const char *tenant; /* for the title */
    json_t *operation;  /* its newest answer; owned: json_decref */
    bool over;
    size_t row;
};

/**
 * bh_follow(client, items, count, timeout_s):
 * Watch all ${items} until each is over or ${timeout_s} have passed; a daemon
 * that restarts meanwhile is waited for.  Then says of each that did not
 * succeed why, what was undone and the one next command.  Returns 0; 1 where
 * one failed or was undone; 75 where one goes on (deadline, or 130/143 after a
 * signal), naming the command that watches it.
 */
int bh_follow(struct bh_client *client, struct bh_followed *items, size_t count, long timeout_s);

/** bh_follow_end(items, count): release the operations. */
void bh_follow_end(struct bh_followed *items, size_t count);

/** bh_follow_timeout(cli, ret_seconds): --timeout, 60 where absent.  Returns 0 or the exit code. */
int bh_follow_timeout(const struct bh_cli *cli, long *ret_seconds);

#endif
