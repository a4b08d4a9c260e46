#include "control/failpoint.h"

#ifdef BH_FAILPOINTS

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/str.h"

#define SPEC_MAX 128
#define DELAY_MS 15000

struct spec {
    struct bh_str step;
    struct bh_str when;
    struct bh_str what;
    uint64_t nth;
};

static bool
parse_spec(const char *text, struct spec *spec)
{
    struct bh_str rest = bh_str_of(text);
    struct bh_str number;
    spec->nth = 1;
    if (!bh_str_cut(rest, ':', &spec->step, &rest) || !bh_str_cut(rest, ':', &spec->when, &rest))
        return false;
    spec->what = rest;
    if (!bh_str_cut(rest, ':', &spec->what, &number))
        return true;
    return bh_str_uint(number, UINT32_MAX, &spec->nth);
}

/* Counts in a file that survives the kill: a restarted daemon must not fall again. */
static uint64_t
count_passage(const char *state_dir, const char *spec)
{
    char path[4096];
    uint64_t count = 0;
    snprintf(path, sizeof(path), "%s/failpoints", state_dir);
    mkdir(path, 0700);
    snprintf(path, sizeof(path), "%s/failpoints/%s", state_dir, spec);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || flock(fd, LOCK_EX) != 0 || pread(fd, &count, sizeof(count), 0) < 0)
        abort();
    count++;
    if (pwrite(fd, &count, sizeof(count), 0) != (ssize_t)sizeof(count) || fsync(fd) != 0)
        abort();
    close(fd);
    return count;
}

enum bh_failpoint
bh_failpoint_pass(const char *state_dir, const char *step, const char *when)
{
    const char *text = getenv("BULKHEAD_FAILPOINT");
    struct spec spec;
    if (!state_dir || !text || strlen(text) >= SPEC_MAX || strchr(text, '/') ||
        !parse_spec(text, &spec))
        return BH_FAILPOINT_NONE;
    if (!bh_str_is(spec.step, step) || !bh_str_is(spec.when, when) ||
        count_passage(state_dir, text) != spec.nth)
        return BH_FAILPOINT_NONE;
    if (bh_str_is(spec.what, "kill"))
        raise(SIGKILL);
    if (bh_str_is(spec.what, "error"))
        return BH_FAILPOINT_ERROR;
    return bh_str_is(spec.what, "delay") ? BH_FAILPOINT_DELAY : BH_FAILPOINT_NONE;
}

void
bh_failpoint_start(const char *state_dir)
{
    const char *text = getenv("BULKHEAD_FAILPOINT");
    char path[4096];
    struct dirent *entry;
    snprintf(path, sizeof(path), "%s/failpoints", state_dir ? state_dir : "");
    DIR *dir = state_dir ? opendir(path) : NULL;
    if (!dir)
        return;
    while ((entry = readdir(dir)))
        if (entry->d_type == DT_REG && !(text && strcmp(text, entry->d_name) == 0))
            unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
}

int
bh_failpoint_delay_ms(void)
{
    const char *text = getenv("BULKHEAD_FAILPOINT_DELAY_MS");
    uint64_t ms;
    return text && bh_str_uint(bh_str_of(text), 600000, &ms) ? (int)ms : DELAY_MS;
}

int
bh_failpoint_lease_ms(int lease_ms)
{
    const char *text = getenv("BULKHEAD_FAILPOINT_LEASE_MS");
    uint64_t ms;
    return text && bh_str_uint(bh_str_of(text), 600000, &ms) && ms >= 300 ? (int)ms : lease_ms;
}

#endif
