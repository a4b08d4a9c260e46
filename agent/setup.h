/*
 * The state directory: made, filled and checked before anything starts.
 *
 * The outer half runs as who typed `up` (root, or a person): engine user,
 * directories, credentials for people, copies of our programs and modules.
 * The inner half runs as the engine user: keys, configurations, the cluster.
 * As root, `$STATE` and `$STATE/lib` stay root's, so that no engine can replace
 * what runs, and root never writes in a directory that the engine user owns.
 */
#ifndef BH_AGENT_SETUP_H
#define BH_AGENT_SETUP_H

#include <stdbool.h>

#include "agent/site.h"
#include "core/arena.h"
#include "core/error.h"
#include "core/str.h"

#define BH_SECRET_TEXT 65 /* 32 random bytes as hexadecimal digits, and a NUL */

struct bh_passwords {
    char superuser[BH_SECRET_TEXT];
    char registry[BH_SECRET_TEXT];
    char pool[BH_SECRET_TEXT];
};

/* What the outer half knows and the inner half needs. */
struct bh_secrets {
    struct bh_passwords passwords;
    char operator_token[BH_SECRET_TEXT + 8];
    char agent_token[BH_SECRET_TEXT + 8];
};

/**
 * bh_setup_outer(site, ret_secrets, err):
 * Find or make the engine user (fills ${site}->uid, gid), the directories, the
 * tokens and `pgpass`, and copy our files from ../lib and ../share of this
 * program.  BH_E_CONFIG names the directory that the engine user cannot pass.
 */
enum bh_code bh_setup_outer(
    struct bh_site *site, struct bh_secrets *ret_secrets, struct bh_error *err) BH_MUSTCHECK;

/** bh_setup_drop(site, err): become the engine user for good; nothing where we are it already. */
enum bh_code bh_setup_drop(const struct bh_site *site, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_setup_inner(site, secrets, err):
 * Write keys, principals, passfiles and configurations (those that differ) and
 * make the counters' directory.
 */
enum bh_code bh_setup_inner(
    struct bh_site *site, const struct bh_secrets *secrets, struct bh_error *err) BH_MUSTCHECK;

/** bh_setup_cluster(site, ret_made, err): initdb where there is no cluster yet, or where an earlier
 * one was interrupted. */
enum bh_code bh_setup_cluster(
    const struct bh_site *site, bool *ret_made, struct bh_error *err) BH_MUSTCHECK;

/** bh_passwords_read(site, arena, ret_passwords, err) / bh_passwords_wipe(passwords): from the
 * engine user's passfiles. */
enum bh_code bh_passwords_read(const struct bh_site *site, struct bh_arena *arena,
    struct bh_passwords *ret_passwords, struct bh_error *err) BH_MUSTCHECK;
void bh_passwords_wipe(struct bh_passwords *passwords);

/** bh_secret_make(ret_text, err): a fresh secret. */
enum bh_code bh_secret_make(char ret_text[BH_SECRET_TEXT], struct bh_error *err) BH_MUSTCHECK;

#endif
