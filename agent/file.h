/* Files of the state directory: read with a limit, replace by rename, copy only what differs. */
#ifndef BH_AGENT_FILE_H
#define BH_AGENT_FILE_H

#include <stdbool.h>
#include <sys/types.h>

#include "core/arena.h"
#include "core/error.h"
#include "core/str.h"

/**
 * bh_file_read(path, max, arena, ret_text, err):
 * The whole of a regular file of at most ${max} bytes, in ${arena},
 * NUL-terminated; follows no symbolic link.  BH_E_NOT_FOUND where there is none.
 */
enum bh_code bh_file_read(const char *path, size_t max, struct bh_arena *arena,
    struct bh_str *ret_text, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_file_put(path, text, mode, ret_changed, err):
 * Make ${path} hold exactly ${text} with ${mode}, by rename; touches nothing
 * where it does already.  ${ret_changed} may be NULL.
 */
enum bh_code bh_file_put(const char *path, struct bh_str text, mode_t mode, bool *ret_changed,
    struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_dir_make(path, mode, uid, gid, err):
 * Make the directory ${path} (parents are there) or accept a real directory,
 * and give it owner and mode.
 */
enum bh_code bh_dir_make(
    const char *path, mode_t mode, uid_t uid, gid_t gid, struct bh_error *err) BH_MUSTCHECK;

/** bh_file_copy(from, to, mode, err): make ${to} hold what ${from} holds; by rename, only where it
 * differs. */
enum bh_code bh_file_copy(
    const char *from, const char *to, mode_t mode, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_tree_copy(from, to, err):
 * Make directory ${to} mirror ${from}: files 0644, directories 0755, strangers
 * removed.  Links and special files are left out.
 */
enum bh_code bh_tree_copy(const char *from, const char *to, struct bh_error *err) BH_MUSTCHECK;

#endif
