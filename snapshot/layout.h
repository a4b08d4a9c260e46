/*
 * What reader.c and writer.c share: the tables of the LMDB environment and
 * how its errors become ours.  Internal to snapshot/ and its tests;
 * doc/contract/snapshot.md describes the bytes.
 */
#ifndef BH_SNAPSHOT_LAYOUT_H
#define BH_SNAPSHOT_LAYOUT_H

#include <lmdb.h>
#include <stdint.h>

#include "core/error.h"
#include "snapshot/snapshot.h"

#define BH_SNAPSHOT_READERS 1022

/* The named databases. */
enum bh_table {
    BH_TABLE_META,
    BH_TABLE_TENANT,
    BH_TABLE_NUMBER,
    BH_TABLE_NAME,
    BH_TABLE_NAME_OF,
    BH_TABLE_DOCUMENT,
    BH_TABLE_DOMAIN,
    BH_TABLE_DOMAINS,
    BH_TABLE_COUNT
};

#define BH_META_FORMAT "format" /* uint32 */
#define BH_META_STATE "state"   /* struct bh_snapshot_meta; absent until the first feed */

#define BH_NAME_KEY 5     /* kind, be32 number */
#define BH_NAME_OF_KEY 33 /* kind, SHA-256 of the text */
#define BH_DOMAIN_NO 4    /* a domain's value: be32 no, then the id */

/** bh_table_name(table) → "tenant" … */
const char *bh_table_name(enum bh_table table);

/** bh_be32(value, ret_bytes): most significant byte first, so that keys sort by number. */
void bh_be32(uint32_t value, uint8_t ret_bytes[4]);

/** bh_mdb_fail(err, rc, what, path): LMDB's or the system's error number ${rc} as ours. */
enum bh_code bh_mdb_fail(struct bh_error *err, int rc, const char *what, const char *path);

/** bh_env_new(ret_env, path, err): an environment that is configured but not open. */
enum bh_code bh_env_new(MDB_env **ret_env, const char *path, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_format_check(txn, meta, path, ret_older, err):
 * BH_OK where the format row is ours or absent; BH_E_CONFIG else, and ${ret_older} (may be NULL)
 * says whether it is one that we know how to replace.
 */
enum bh_code bh_format_check(MDB_txn *txn, MDB_dbi meta, const char *path, bool *ret_older,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_document_split(value, ret_document): a document's value (uint64 version, body) taken apart.
 */
bool bh_document_split(MDB_val value, struct bh_document *ret_document);

/**
 * bh_document_put(txn, table, name, document):
 * Replace the document of that name, or remove it where the body's data is NULL; nothing where a
 * newer version is stored.  0 or LMDB's error.
 */
int bh_document_put(
    MDB_txn *txn, MDB_dbi table, struct bh_str name, const struct bh_document *document);

/**
 * bh_domains_put(txn, tables, facts) / bh_domains_forget(txn, tables, no):
 * Map the tenant's domains to it; remove all that map to tenant ${no}.  0 or LMDB's error.
 */
int bh_domains_put(
    MDB_txn *txn, const MDB_dbi tables[BH_TABLE_COUNT], const struct bh_tenant_facts *facts);
int bh_domains_forget(MDB_txn *txn, const MDB_dbi tables[BH_TABLE_COUNT], int32_t no);

/**
 * bh_name_intern(txn, tables, kind, text, ret_number):
 * The number of a text, giving it one where it has none; an empty text is
 * number 0.  0 or LMDB's error.
 */
int bh_name_intern(MDB_txn *txn, const MDB_dbi tables[BH_TABLE_COUNT], enum bh_name_kind kind,
    struct bh_str text, uint32_t *ret_number);

/**
 * bh_writer_open_sized(path, reserve, ret_writer, err):
 * bh_writer_open with another number of bytes that every transaction finds
 * free in the map.
 */
enum bh_code bh_writer_open_sized(const char *path, size_t reserve,
    struct bh_snapshot_writer **ret_writer, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_snapshot_on(env, path, ret_snapshot, err):
 * A reader on an open environment, which it does not own.
 */
enum bh_code bh_snapshot_on(MDB_env *env, const char *path, struct bh_snapshot **ret_snapshot,
    struct bh_error *err) BH_MUSTCHECK;

#endif
