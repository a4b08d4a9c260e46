/*
 * The snapshot: what enforcers know of every tenant, in one LMDB file with one
 * writer (the agent) and many readers (nginx workers).
 *
 * A reader needs no daemon: with the control plane and the agent gone it
 * serves the last committed state.  doc/contract/snapshot.md gives the layout:
 * named databases `meta`, `tenant` (id → hot record), `number` (be32 no → id)
 * and `name` (kind, be32 number → text) with `name_of` (kind, SHA-256 of text → number),
 * `document` (name → version and JSON body: what is asked for less often or is large),
 * `domain` (host → tenant) with `domains` (be32 no → its hosts).
 * Interned names are never changed or removed, so that readers may keep them.
 * Integers in records are in host order; the format number says so.
 */
#ifndef BH_SNAPSHOT_SNAPSHOT_H
#define BH_SNAPSHOT_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/host.h"
#include "core/str.h"
#include "core/tenant.h"

#define BH_SNAPSHOT_FORMAT 2

/* Which table of interned names. */
enum bh_name_kind {
    BH_NAME_SERVER,    /* PostgreSQL server: "main" */
    BH_NAME_DATABASE,  /* pooler alias = database name: "shared1" */
    BH_NAME_ENDPOINTS, /* addresses, parted by one space: "127.0.0.1:7090 unix:/run/x [::1]:80" */
    BH_NAME_CELL,
    BH_NAME_TIER,
    BH_NAME_POLICY, /* the document of the tenant's edge settings, without "policy/"; may be empty
                     */
    BH_NAME_KIND_COUNT
};

/* The hot record: one cache line, read for every request. */
struct bh_record {
    struct bh_uid uid;
    int32_t no;
    uint32_t version; /* of the feed's row */
    uint32_t epoch;
    uint32_t rate;                      /* requests a second */
    uint32_t burst;                     /* requests at once */
    uint32_t names[BH_NAME_KIND_COUNT]; /* numbers of interned names */
    uint16_t share;                     /* this edge's part of the rate, in 1/1000 */
    uint8_t state;                      /* enum bh_tenant_state */
    uint8_t flags;                      /* none yet: 0 */
};
_Static_assert(sizeof(struct bh_record) == 64, "a record is one cache line");

struct bh_snapshot_meta {
    struct bh_uid incarnation; /* of the registry's feed */
    uint64_t seq;              /* last applied */
    uint64_t keyring;          /* rises when the keyring file was replaced */
};

/* ---- reader: one per process, made after fork; not for threads ---- */

struct bh_snapshot;

/**
 * bh_snapshot_open(path, ret_snapshot, err):
 * Open the snapshot directory ${path} read-only, after clearing the reader
 * slots of crashed processes.  BH_E_NOT_READY where there is none yet or it is
 * empty (try again later); BH_E_CONFIG where its format is not ours.
 */
enum bh_code bh_snapshot_open(
    const char *path, struct bh_snapshot **ret_snapshot, struct bh_error *err) BH_MUSTCHECK;
void bh_snapshot_close(struct bh_snapshot *snapshot);

/** bh_snapshot_replaced(snapshot): was its file removed, so that it must be opened anew? */
bool bh_snapshot_replaced(struct bh_snapshot *snapshot);

/**
 * bh_snapshot_begin(snapshot, err) / bh_snapshot_end(snapshot):
 * See the newest committed state until end (9 ns).  Never keep it across a
 * return to the event loop: a reader that stays pins old pages.
 */
enum bh_code bh_snapshot_begin(struct bh_snapshot *snapshot, struct bh_error *err) BH_MUSTCHECK;
void bh_snapshot_end(struct bh_snapshot *snapshot);

/**
 * bh_snapshot_newest(snapshot):
 * Number of the newest committed transaction, seen from outside one: what was
 * read in a transaction of that number still holds.  0 where it is not known.
 */
uint64_t bh_snapshot_newest(struct bh_snapshot *snapshot);

/* Between begin and end: */

/** bh_snapshot_get(snapshot, id, ret_record): false where there is no such tenant. */
bool bh_snapshot_get(struct bh_snapshot *snapshot, struct bh_str id, struct bh_record *ret_record);

/** bh_snapshot_find(snapshot, no, ret_record): the same by number. */
bool bh_snapshot_find(struct bh_snapshot *snapshot, int32_t no, struct bh_record *ret_record);

/** bh_snapshot_id(snapshot, no, ret_id): id of the tenant of that number; false where there is
 * none. */
bool bh_snapshot_id(struct bh_snapshot *snapshot, int32_t no, char ret_id[BH_TENANT_ID_MAX + 1]);

/** bh_snapshot_name(snapshot, kind, number): the interned text; borrowed until end; empty where
 * unknown. */
struct bh_str bh_snapshot_name(
    struct bh_snapshot *snapshot, enum bh_name_kind kind, uint32_t number);

#define BH_DOCUMENT_NAME_MAX 255
#define BH_DOCUMENT_MAX 65536 /* bytes of a body */

struct bh_document {
    uint64_t version;   /* rises with each change of it */
    struct bh_str body; /* JSON; borrowed until end */
};

/** bh_snapshot_document(snapshot, name, ret_document): false where there is none of that name. */
bool bh_snapshot_document(
    struct bh_snapshot *snapshot, struct bh_str name, struct bh_document *ret_document);

/**
 * bh_snapshot_domain(snapshot, host, ret_id):
 * Id of the tenant that the custom domain ${host} (lower case, without port and last dot) belongs
 * to; false where it is nobody's.
 */
bool bh_snapshot_domain(
    struct bh_snapshot *snapshot, struct bh_str host, char ret_id[BH_TENANT_ID_MAX + 1]);

/** bh_snapshot_meta(snapshot, ret_meta): where the state stands. */
void bh_snapshot_meta(struct bh_snapshot *snapshot, struct bh_snapshot_meta *ret_meta);

/** bh_snapshot_txn(snapshot): number of the LMDB transaction seen; rises with each commit. */
uint64_t bh_snapshot_txn(struct bh_snapshot *snapshot);

/** bh_snapshot_each(snapshot, visit, arg): call ${visit} for every tenant by id; stops when it
 * returns false. */
void bh_snapshot_each(struct bh_snapshot *snapshot,
    bool (*visit)(void *arg, struct bh_str id, const struct bh_record *record), void *arg);

/* ---- writer: one in the world; a second is refused ---- */

struct bh_snapshot_writer;

/* The whole record of one tenant, as the feed states it (doc/contract/feed.md). */
struct bh_tenant_facts {
    struct bh_str id;
    struct bh_uid uid;
    int32_t no;
    uint32_t version;
    uint32_t epoch;
    enum bh_tenant_state state;
    uint32_t rate;
    uint32_t burst;
    uint32_t share;
    struct bh_str names[BH_NAME_KIND_COUNT];
    struct bh_str domains; /* custom domains in lower case, parted by one space; may be empty */
};

/**
 * bh_writer_open(path, ret_writer, err):
 * Create or open the snapshot directory ${path} (mode 0700 if made) for
 * writing; the map grows by itself.  Run by root, the files get the owner of the
 * directory they lie in, and a directory made here that of its parent.  A snapshot of an older
 * format is removed and begun anew: the feed brings all of it again.  BH_E_CONFLICT where another
 * process has it open for writing; BH_E_CONFIG where its format is newer than ours.
 */
enum bh_code bh_writer_open(
    const char *path, struct bh_snapshot_writer **ret_writer, struct bh_error *err) BH_MUSTCHECK;
void bh_writer_close(struct bh_snapshot_writer *writer);

/**
 * bh_writer_reader(writer, ret_snapshot, err):
 * A reader for the process that writes (LMDB must not be opened twice in one
 * process).  Close it before the writer.  Fails as bh_snapshot_open does.
 */
enum bh_code bh_writer_reader(struct bh_snapshot_writer *writer, struct bh_snapshot **ret_snapshot,
    struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_writer_begin / put / remove / document / clear / meta / commit / abort:
 * One transaction.  put replaces what is known of ${facts->no}, whatever id it
 * had, and of ${facts->id}; a put or remove with a lower version than the one
 * stored changes nothing.  remove of an unknown number is fine.  document replaces
 * the one of that name, data NULL in ${body} removes it, with the same rule about
 * versions.  A domain that two tenants state is the later one's.  clear drops
 * every tenant, domain and document and keeps the interned names.  After a failure only abort is
 * allowed.  Nothing is seen by readers before commit.
 */
enum bh_code bh_writer_begin(struct bh_snapshot_writer *writer, struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_writer_put(struct bh_snapshot_writer *writer, const struct bh_tenant_facts *facts,
    struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_writer_remove(struct bh_snapshot_writer *writer, int32_t no, uint32_t version,
    struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_writer_document(struct bh_snapshot_writer *writer, struct bh_str name,
    uint64_t version, struct bh_str body, struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_writer_clear(struct bh_snapshot_writer *writer, struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_writer_meta(struct bh_snapshot_writer *writer, const struct bh_snapshot_meta *meta,
    struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_writer_commit(struct bh_snapshot_writer *writer, struct bh_error *err) BH_MUSTCHECK;
void bh_writer_abort(struct bh_snapshot_writer *writer);

/* How full the snapshot is. */
struct bh_snapshot_room {
    unsigned readers; /* places in LMDB's table of readers that are taken */
    unsigned stale;   /* of those, by processes that died: the next reader that opens clears them */
    unsigned readers_max; /* where all are taken, a new worker cannot read */
    uint64_t bytes;       /* of the file that hold something */
    uint64_t map_bytes;   /* reserved; grows by itself */
};

/** bh_writer_room(writer, ret_room, err): look; between transactions of this process. */
enum bh_code bh_writer_room(struct bh_snapshot_writer *writer, struct bh_snapshot_room *ret_room,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_writer_meta_get(writer, ret_meta, err): what was committed last; all zero in a new snapshot.
 */
enum bh_code bh_writer_meta_get(struct bh_snapshot_writer *writer,
    struct bh_snapshot_meta *ret_meta, struct bh_error *err) BH_MUSTCHECK;

#endif
