/* Files beside others: who owns them, and how they are replaced. */
#ifndef BH_SNAPSHOT_PLACE_H
#define BH_SNAPSHOT_PLACE_H

#include <limits.h>

#include "core/error.h"
#include "core/str.h"

/**
 * bh_place_own(fd, path, err):
 * Where we are root, give the open file ${fd} (or, where ${fd} is negative, the
 * file at ${path}) the owner of the directory that ${path} lies in: nginx
 * workers are not root and must reach what a root agent makes.
 */
enum bh_code bh_place_own(int fd, const char *path, struct bh_error *err) BH_MUSTCHECK;

/** bh_place_dir(path): open the directory that ${path} lies in; a descriptor or -1 and errno. */
int bh_place_dir(const char *path);

/**
 * bh_place_begin(path, ret_temp, ret_fd, err) / bh_place_end(fd, path, temp, code, err):
 * Make an empty file beside ${path}, mode 0600: its name and an open descriptor, for end to take.
 * BH_E_CONFIG, BH_E_UNAVAILABLE.  end closes ${fd} and, where ${code} is BH_OK, gives the file the
 * name ${path}; else, or where that fails (BH_E_UNAVAILABLE), removes it.  Returns ${code}, or how
 * it failed.
 */
enum bh_code bh_place_begin(
    const char *path, char ret_temp[PATH_MAX], int *ret_fd, struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_place_end(int fd, const char *path, const char *temp, enum bh_code code,
    struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_place_replace(path, mode, text, err):
 * Put a file of ${mode} with ${text} at ${path} by rename, synced, so that a
 * reader sees the old or the new one whole.
 */
enum bh_code bh_place_replace(
    const char *path, unsigned mode, struct bh_str text, struct bh_error *err) BH_MUSTCHECK;

#endif
