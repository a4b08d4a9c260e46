#include "core/tenant.h"

#include <stdio.h>

#include "core/codec.h"

static const struct bh_str reserved[] = {
    {"www", 3}, {"api", 3}, {"admin", 5}, {"app", 3}, {"t", 1}, {"default", 7}, {"bulkhead", 8}};

static const char *const states[BH_TENANT_STATE_COUNT] = {
    [BH_TENANT_PENDING] = "pending",
    [BH_TENANT_ACTIVE] = "active",
    [BH_TENANT_SUSPENDED] = "suspended",
    [BH_TENANT_MOVING] = "moving",
    [BH_TENANT_FAILED] = "failed",
    [BH_TENANT_OFFBOARDING] = "offboarding",
    [BH_TENANT_GONE] = "gone",
};

const char *
bh_tenant_state_name(enum bh_tenant_state state)
{
    return (unsigned)state < BH_TENANT_STATE_COUNT ? states[state] : "";
}

bool
bh_tenant_state_find(struct bh_str name, enum bh_tenant_state *ret_state)
{
    for (unsigned i = 0; i < BH_TENANT_STATE_COUNT; i++) {
        if (bh_str_is(name, states[i])) {
            *ret_state = (enum bh_tenant_state)i;
            return true;
        }
    }
    return false;
}

static bool
is_letter(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool
is_letter_or_digit(char c)
{
    return is_letter(c) || (c >= '0' && c <= '9');
}

/* What is wrong with ${id}, or NULL. */
static const char *
id_problem(struct bh_str id)
{
    if (id.len == 0)
        return "a tenant id must not be empty";
    if (id.len > BH_TENANT_ID_MAX)
        return "a tenant id has at most 48 characters";
    for (size_t i = 0; i < id.len; i++) {
        if (!is_letter_or_digit(id.data[i]) && id.data[i] != '-')
            return "a tenant id consists of a-z, 0-9 and hyphens";
        if (id.data[i] == '-' && i > 0 && id.data[i - 1] == '-')
            return "a tenant id has no two hyphens in a row";
    }
    if (!is_letter(id.data[0]))
        return "a tenant id begins with a letter";
    if (id.data[id.len - 1] == '-')
        return "a tenant id does not end in a hyphen";
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        if (bh_str_eq(id, reserved[i]))
            return "this tenant id is reserved";
    }
    return NULL;
}

enum bh_code
bh_tenant_id_check(struct bh_str id, struct bh_error *err)
{
    const char *problem = id_problem(id);
    return problem == NULL ? BH_OK : bh_fail_at(err, BH_E_INVALID, "/id", "%s", problem);
}

/* Where the hyphens of a UUID's text stand, in groups of bytes. */
static const unsigned char groups[] = {4, 2, 2, 2, 6};

bool
bh_uid_parse(struct bh_str text, struct bh_uid *ret_uid)
{
    struct bh_uid uid;
    size_t at = 0, byte = 0;
    if (text.len != BH_UID_TEXT - 1)
        return false;
    for (size_t i = 0; i < sizeof(groups); i++) {
        if (i > 0 && text.data[at++] != '-')
            return false;
        struct bh_str digits = {text.data + at, 2u * groups[i]};
        if (!bh_hex_decode(digits, uid.bytes + byte, groups[i]))
            return false;
        at += digits.len;
        byte += groups[i];
    }
    *ret_uid = uid;
    return true;
}

void
bh_uid_format(const struct bh_uid *uid, char ret_text[BH_UID_TEXT])
{
    static const char digits[] = "0123456789abcdef";
    size_t byte = 0;
    for (size_t i = 0; i < sizeof(groups); i++) {
        if (i > 0)
            *ret_text++ = '-';
        for (size_t end = byte + groups[i]; byte < end; byte++) {
            *ret_text++ = digits[uid->bytes[byte] >> 4];
            *ret_text++ = digits[uid->bytes[byte] & 15];
        }
    }
    *ret_text = '\0';
}

/* 48 bits of time, then 80 of randomness: the shape of UUIDv7 and ULID alike. */
static void
put_time_and_random(uint8_t bytes[16], int64_t time_ms, const uint8_t random[10])
{
    for (int i = 0; i < 6; i++)
        bytes[i] = (uint8_t)((uint64_t)time_ms >> (40 - 8 * i));
    memcpy(bytes + 6, random, 10);
}

void
bh_uid_make(int64_t time_ms, const uint8_t random[10], struct bh_uid *ret_uid)
{
    put_time_and_random(ret_uid->bytes, time_ms, random);
    ret_uid->bytes[6] = (uint8_t)(0x70 | (ret_uid->bytes[6] & 0x0f));
    ret_uid->bytes[8] = (uint8_t)(0x80 | (ret_uid->bytes[8] & 0x3f));
}

void
bh_ulid_make(int64_t time_ms, const uint8_t random[10], char ret_text[BH_ULID_TEXT])
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    uint8_t bytes[16];
    put_time_and_random(bytes, time_ms, random);
    uint32_t bits = 0;
    unsigned held = 2; /* 128 bits are two short of 26 digits: they stand before the first */
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bits = bits << 8 | bytes[i];
        for (held += 8; held >= 5; held -= 5)
            *ret_text++ = digits[bits >> (held - 5) & 31];
    }
    *ret_text = '\0';
}

void
bh_tenant_owner_role(int32_t no, char ret_name[BH_PGNAME])
{
    snprintf(ret_name, BH_PGNAME, "bh_o%d", no);
}

void
bh_tenant_user_role(int32_t no, char ret_name[BH_PGNAME])
{
    snprintf(ret_name, BH_PGNAME, "bh_t%d", no);
}

void
bh_tenant_schema(int32_t no, char ret_name[BH_PGNAME])
{
    snprintf(ret_name, BH_PGNAME, "t%d", no);
}
