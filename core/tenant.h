/*
 * What a tenant is called, and in which states it can be.
 *
 * `id` is chosen by people, `uid` is never reused, and `no` is the only name
 * that is used inside engines, because engine catalogues can be read by others.
 */
#ifndef BH_CORE_TENANT_H
#define BH_CORE_TENANT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"

#define BH_TENANT_ID_MAX 48
#define BH_UID_TEXT 37 /* 8-4-4-4-12 hexadecimal digits and a NUL */

struct bh_uid {
    uint8_t bytes[16];
};

enum bh_tenant_state {
    BH_TENANT_PENDING,     /* accepted, first onboarding runs */
    BH_TENANT_ACTIVE,      /* serves */
    BH_TENANT_SUSPENDED,   /* keeps its data, serves nothing */
    BH_TENANT_MOVING,      /* is being cut over to another place */
    BH_TENANT_FAILED,      /* first onboarding failed and was undone */
    BH_TENANT_OFFBOARDING, /* is being removed */
    BH_TENANT_GONE,        /* nothing of it is left but its number */
    BH_TENANT_STATE_COUNT
};

/**
 * bh_tenant_state_name(state) → "active" …; bh_tenant_state_find(name, ret_state) → false where
 * there is none.
 */
const char *bh_tenant_state_name(enum bh_tenant_state state);
bool bh_tenant_state_find(struct bh_str name, enum bh_tenant_state *ret_state);

/**
 * bh_tenant_id_check(id, err):
 * BH_OK where ${id} may name a tenant: `^[a-z]([a-z0-9-]{0,46}[a-z0-9])?$`, no
 * `--`, none of the reserved words.  Else BH_E_INVALID at "/id", saying why.
 */
enum bh_code bh_tenant_id_check(struct bh_str id, struct bh_error *err) BH_MUSTCHECK;

/** bh_uid_parse(text, ret_uid): lower- or upper-case canonical UUID text only. */
bool bh_uid_parse(struct bh_str text, struct bh_uid *ret_uid);
void bh_uid_format(const struct bh_uid *uid, char ret_text[BH_UID_TEXT]);

/** bh_uid_make(time_ms, random, ret_uid): UUIDv7 (RFC 9562) of a time and 10 random bytes. */
void bh_uid_make(int64_t time_ms, const uint8_t random[10], struct bh_uid *ret_uid);

#define BH_ULID_TEXT 27 /* 26 characters and a NUL */

/** bh_ulid_make(time_ms, random, ret_text): Crockford base 32, for "op_" ids. */
void bh_ulid_make(int64_t time_ms, const uint8_t random[10], char ret_text[BH_ULID_TEXT]);

/* Names inside PostgreSQL, each at most 63 bytes with its NUL. */
#define BH_PGNAME 64
void bh_tenant_owner_role(int32_t no, char ret_name[BH_PGNAME]); /* bh_o42 */
void bh_tenant_user_role(int32_t no, char ret_name[BH_PGNAME]);  /* bh_t42 */
void bh_tenant_schema(int32_t no, char ret_name[BH_PGNAME]);     /* t42 */

#endif
