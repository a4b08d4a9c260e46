#include "control/registry/change.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static enum bh_code
draw(uint8_t ret_random[10], int64_t *ret_ms, struct bh_error *err)
{
    struct timespec now;
    if (getrandom(ret_random, 10, 0) != 10)
        return bh_fail(err, BH_E_INTERNAL, "no random bytes: %s", strerror(errno));
    clock_gettime(CLOCK_REALTIME, &now);
    *ret_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    return BH_OK;
}

enum bh_code
bh_uid_new(struct bh_uid *ret_uid, struct bh_error *err)
{
    uint8_t random[10];
    int64_t ms;
    BH_TRY(draw(random, &ms, err));
    bh_uid_make(ms, random, ret_uid);
    return BH_OK;
}

static enum bh_code
new_ulid(char ret_ulid[BH_ULID_TEXT], struct bh_error *err)
{
    uint8_t random[10];
    int64_t ms;
    BH_TRY(draw(random, &ms, err));
    bh_ulid_make(ms, random, ret_ulid);
    return BH_OK;
}

enum bh_code
bh_operation_id_new(char ret_id[BH_OPERATION_ID], struct bh_error *err)
{
    char ulid[BH_ULID_TEXT];
    BH_TRY(new_ulid(ulid, err));
    snprintf(ret_id, BH_OPERATION_ID, "op_%s", ulid);
    return BH_OK;
}

enum bh_code
bh_key_id_new(char ret_id[BH_KEY_ID], struct bh_error *err)
{
    char ulid[BH_ULID_TEXT];
    BH_TRY(new_ulid(ulid, err));
    snprintf(ret_id, BH_KEY_ID, "key_%s", ulid);
    return BH_OK;
}
