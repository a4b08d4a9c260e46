/* One writer, many readers: what a commit shows, what it hides, and what killed processes leave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/meter.h"
#include "snapshot/layout.h"
#include "snapshot/snapshot.h"

static char dir[64];
static char path[80];

static int
make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/bh-snapshot-XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/snap", dir);
    return 0;
}

static int
drop_dir(void **state)
{
    (void)state;
    static const char *const files[] = {"data.mdb", "lock.mdb", "writer.lock"};
    for (size_t i = 0; i < 3; i++) {
        char file[128];
        snprintf(file, sizeof(file), "%s/%s", path, files[i]);
        unlink(file);
    }
    rmdir(path);
    return rmdir(dir);
}

static struct bh_tenant_facts
facts_of(const char *id, int32_t no, uint32_t version)
{
    struct bh_tenant_facts facts = {
        .id = bh_str_of(id),
        .no = no,
        .version = version,
        .epoch = 1,
        .state = BH_TENANT_ACTIVE,
        .rate = 100,
        .burst = 200,
        .share = 1000,
        .names = {BH_STR("main"), BH_STR("shared1"), BH_STR("127.0.0.1:7090"), BH_STR("cell"),
            BH_STR("standard"), BH_STR("gold")},
    };
    facts.uid.bytes[0] = (uint8_t)no;
    return facts;
}

static struct bh_snapshot_writer *
writer_open(void)
{
    struct bh_snapshot_writer *writer;
    struct bh_error err;
    if (bh_writer_open(path, &writer, &err) != BH_OK) {
        fail_msg("%s", err.detail);
    }
    return writer;
}

static void
put_one(struct bh_snapshot_writer *writer, struct bh_tenant_facts facts)
{
    struct bh_snapshot_meta meta = {.seq = facts.version, .keyring = 1};
    assert_int_equal(bh_writer_begin(writer, NULL), BH_OK);
    assert_int_equal(bh_writer_put(writer, &facts, NULL), BH_OK);
    assert_int_equal(bh_writer_meta(writer, &meta, NULL), BH_OK);
    assert_int_equal(bh_writer_commit(writer, NULL), BH_OK);
}

static void
remove_one(struct bh_snapshot_writer *writer, int32_t no, uint64_t version)
{
    assert_int_equal(bh_writer_begin(writer, NULL), BH_OK);
    assert_int_equal(bh_writer_remove(writer, no, version, NULL), BH_OK);
    assert_int_equal(bh_writer_commit(writer, NULL), BH_OK);
}

/* The number stored under an id now; 0 where there is none. */
static int32_t
no_of(struct bh_snapshot *snapshot, const char *id)
{
    struct bh_record record = {.no = 0};
    assert_int_equal(bh_snapshot_begin(snapshot, NULL), BH_OK);
    bool found = bh_snapshot_get(snapshot, bh_str_of(id), &record);
    bh_snapshot_end(snapshot);
    return found ? record.no : 0;
}

static bool
has_no(struct bh_snapshot *snapshot, int32_t no)
{
    struct bh_record record;
    assert_int_equal(bh_snapshot_begin(snapshot, NULL), BH_OK);
    bool found = bh_snapshot_find(snapshot, no, &record);
    bh_snapshot_end(snapshot);
    return found;
}

static void
test_not_ready(void **state)
{
    (void)state;
    struct bh_snapshot *snapshot;
    assert_int_equal(bh_snapshot_open(path, &snapshot, NULL), BH_E_NOT_READY);
    struct bh_snapshot_writer *writer = writer_open();
    bh_writer_close(writer);
    /* Tables, but no feed was applied. */
    assert_int_equal(bh_snapshot_open(path, &snapshot, NULL), BH_E_NOT_READY);
    writer = writer_open();
    put_one(writer, facts_of("acme", 1, 1));
    bh_writer_close(writer);
    assert_int_equal(bh_snapshot_open(path, &snapshot, NULL), BH_OK);
    bh_snapshot_close(snapshot);
}

static void
test_record(void **state)
{
    (void)state;
    struct bh_snapshot_writer *writer = writer_open();
    put_one(writer, facts_of("acme", 42, 3));
    struct bh_snapshot *snapshot;
    assert_int_equal(bh_writer_reader(writer, &snapshot, NULL), BH_OK);
    struct bh_record record;
    struct bh_snapshot_meta meta;
    assert_int_equal(bh_snapshot_begin(snapshot, NULL), BH_OK);
    assert_true(bh_snapshot_get(snapshot, BH_STR("acme"), &record));
    assert_int_equal(record.no, 42);
    assert_int_equal(record.version, 3);
    assert_int_equal(record.burst, 200);
    assert_int_equal(record.share, 1000);
    assert_int_equal(record.state, BH_TENANT_ACTIVE);
    assert_int_equal(record.uid.bytes[0], 42);
    static const char *const names[] = {
        "main", "shared1", "127.0.0.1:7090", "cell", "standard", "gold"};
    for (int i = 0; i < BH_NAME_KIND_COUNT; i++) {
        struct bh_str name = bh_snapshot_name(snapshot, (enum bh_name_kind)i, record.names[i]);
        assert_true(bh_str_is(name, names[i]));
    }
    assert_int_equal(bh_snapshot_name(snapshot, BH_NAME_CELL, 99).len, 0);
    assert_false(bh_snapshot_get(snapshot, BH_STR("acm"), &record));
    assert_false(bh_snapshot_get(snapshot, BH_STR(""), &record));
    bh_snapshot_meta(snapshot, &meta);
    assert_int_equal(meta.seq, 3);
    bh_snapshot_end(snapshot);
    bh_snapshot_close(snapshot);
    bh_writer_close(writer);
}

static void
test_versions(void **state)
{
    (void)state;
    struct bh_snapshot_writer *writer = writer_open();
    put_one(writer, facts_of("acme", 7, 5));
    struct bh_snapshot *snapshot;
    assert_int_equal(bh_writer_reader(writer, &snapshot, NULL), BH_OK);
    remove_one(writer, 7, 4); /* older: changes nothing */
    assert_int_equal(no_of(snapshot, "acme"), 7);
    put_one(writer, facts_of("renamed", 7, 4));
    assert_int_equal(no_of(snapshot, "renamed"), 0);
    put_one(writer, facts_of("renamed", 7, 6));
    assert_int_equal(no_of(snapshot, "renamed"), 7);
    assert_int_equal(no_of(snapshot, "acme"), 0);
    /* The id comes back with a new number; the tombstone of the old one must not hurt it. */
    put_one(writer, facts_of("renamed", 9, 1));
    assert_int_equal(no_of(snapshot, "renamed"), 9);
    assert_false(has_no(snapshot, 7));
    remove_one(writer, 7, 99);
    assert_int_equal(no_of(snapshot, "renamed"), 9);
    assert_true(has_no(snapshot, 9));
    remove_one(writer, 9, 2);
    assert_int_equal(no_of(snapshot, "renamed"), 0);
    remove_one(writer, 1234, 1); /* unknown: fine */
    bh_snapshot_close(snapshot);
    bh_writer_close(writer);
}

static bool
count_visit(void *arg, struct bh_str id, const struct bh_record *record)
{
    (void)id;
    (void)record;
    ++*(int *)arg;
    return *(int *)arg < 3;
}

static void
test_isolation(void **state)
{
    (void)state;
    struct bh_snapshot_writer *writer = writer_open();
    put_one(writer, facts_of("acme", 1, 1));
    struct bh_snapshot *snapshot;
    assert_int_equal(bh_writer_reader(writer, &snapshot, NULL), BH_OK);
    struct bh_tenant_facts facts = facts_of("beta", 2, 1);
    assert_int_equal(bh_writer_begin(writer, NULL), BH_OK);
    assert_int_equal(bh_writer_put(writer, &facts, NULL), BH_OK);
    assert_int_equal(no_of(snapshot, "beta"), 0); /* not committed */
    bh_writer_abort(writer);
    assert_int_equal(no_of(snapshot, "beta"), 0);

    struct bh_record record;
    assert_int_equal(bh_snapshot_begin(snapshot, NULL), BH_OK);
    uint64_t before = bh_snapshot_txn(snapshot);
    put_one(writer, facts);
    assert_false(bh_snapshot_get(snapshot, BH_STR("beta"), &record)); /* sees its own state */
    bh_snapshot_end(snapshot);
    assert_int_equal(no_of(snapshot, "beta"), 2);
    assert_int_equal(bh_snapshot_begin(snapshot, NULL), BH_OK);
    assert_true(bh_snapshot_txn(snapshot) > before);
    uint32_t cell = 0;
    assert_true(bh_snapshot_get(snapshot, BH_STR("beta"), &record));
    cell = record.names[BH_NAME_CELL];
    bh_snapshot_end(snapshot);

    assert_int_equal(bh_writer_begin(writer, NULL), BH_OK);
    assert_int_equal(bh_writer_clear(writer, NULL), BH_OK);
    assert_int_equal(bh_writer_commit(writer, NULL), BH_OK);
    int count = 0;
    assert_int_equal(bh_snapshot_begin(snapshot, NULL), BH_OK);
    bh_snapshot_each(snapshot, count_visit, &count);
    assert_int_equal(count, 0);
    assert_true(bh_str_is(bh_snapshot_name(snapshot, BH_NAME_CELL, cell), "cell"));
    bh_snapshot_end(snapshot);
    for (int i = 1; i <= 5; i++) {
        char id[16];
        snprintf(id, sizeof(id), "t%d", i);
        put_one(writer, facts_of(id, i, 1));
    }
    assert_int_equal(bh_snapshot_begin(snapshot, NULL), BH_OK);
    bh_snapshot_each(snapshot, count_visit, &count);
    assert_int_equal(count, 3); /* stopped by the visitor */
    bh_snapshot_end(snapshot);
    bh_snapshot_close(snapshot);
    bh_writer_close(writer);
}

static void
test_one_writer(void **state)
{
    (void)state;
    struct bh_snapshot_writer *writer = writer_open();
    struct bh_snapshot_writer *second = NULL;
    assert_int_equal(bh_writer_open(path, &second, NULL), BH_E_CONFLICT);
    assert_null(second);
    put_one(writer, facts_of("acme", 1, 1)); /* the first goes on */
    struct bh_snapshot_meta meta;
    assert_int_equal(bh_writer_meta_get(writer, &meta, NULL), BH_OK);
    assert_int_equal(meta.keyring, 1);
    bh_writer_close(writer);
    writer = writer_open();
    bh_writer_close(writer);
}

/* As a program of another release leaves it. */
static void
set_format(uint32_t format)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi meta;
    assert_int_equal(bh_env_new(&env, path, NULL), BH_OK);
    assert_int_equal(mdb_env_open(env, path, MDB_NOTLS, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "meta", 0, &meta), 0);
    MDB_val key = {strlen(BH_META_FORMAT), (void *)(uintptr_t)BH_META_FORMAT};
    MDB_val value = {sizeof(format), &format};
    assert_int_equal(mdb_put(txn, meta, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void
test_format(void **state)
{
    (void)state;
    struct bh_snapshot_writer *writer = writer_open();
    put_one(writer, facts_of("acme", 1, 1));
    bh_writer_close(writer);
    struct bh_snapshot *snapshot = NULL;
    set_format(BH_SNAPSHOT_FORMAT + 1);
    assert_int_equal(bh_snapshot_open(path, &snapshot, NULL), BH_E_CONFIG);
    assert_int_equal(bh_writer_open(path, &writer, NULL), BH_E_CONFIG);
    set_format(BH_SNAPSHOT_FORMAT - 1);
    assert_int_equal(bh_snapshot_open(path, &snapshot, NULL), BH_E_CONFIG);
    writer = writer_open(); /* begun anew, and empty */
    bh_writer_close(writer);
    assert_int_equal(bh_snapshot_open(path, &snapshot, NULL), BH_E_NOT_READY);
    writer = writer_open();
    put_one(writer, facts_of("acme", 1, 1));
    bh_writer_close(writer);
    assert_int_equal(bh_snapshot_open(path, &snapshot, NULL), BH_OK);
    bh_snapshot_close(snapshot);
}

static void
put_document(struct bh_snapshot_writer *writer, uint64_t version, const char *body)
{
    assert_int_equal(bh_writer_begin(writer, NULL), BH_OK);
    assert_int_equal(bh_writer_document(writer, BH_STR("policy/gold"), version,
                         body == NULL ? (struct bh_str){NULL, 0} : bh_str_of(body), NULL),
        BH_OK);
    assert_int_equal(bh_writer_commit(writer, NULL), BH_OK);
}

static bool
document_is(struct bh_snapshot *snapshot, uint64_t version, const char *body)
{
    struct bh_document document;
    assert_int_equal(bh_snapshot_begin(snapshot, NULL), BH_OK);
    bool found = bh_snapshot_document(snapshot, BH_STR("policy/gold"), &document);
    bool right = body == NULL
                     ? !found
                     : found && document.version == version && bh_str_is(document.body, body);
    bh_snapshot_end(snapshot);
    return right;
}

static void
test_documents(void **state)
{
    (void)state;
    struct bh_snapshot_writer *writer = writer_open();
    struct bh_snapshot *snapshot;
    put_one(writer, facts_of("acme", 1, 1));
    assert_int_equal(bh_writer_reader(writer, &snapshot, NULL), BH_OK);
    assert_true(document_is(snapshot, 0, NULL));
    put_document(writer, 5, "{}");
    assert_true(document_is(snapshot, 5, "{}"));
    put_document(writer, 4, "{\"auth\":\"app\"}"); /* older */
    assert_true(document_is(snapshot, 5, "{}"));
    put_document(writer, 6, "{\"auth\":\"app\"}");
    assert_true(document_is(snapshot, 6, "{\"auth\":\"app\"}"));
    put_document(writer, 7, NULL);
    assert_true(document_is(snapshot, 0, NULL));
    put_document(writer, 8, "{}");
    assert_int_equal(bh_writer_begin(writer, NULL), BH_OK);
    assert_int_equal(bh_writer_clear(writer, NULL), BH_OK);
    assert_int_equal(bh_writer_commit(writer, NULL), BH_OK);
    assert_true(document_is(snapshot, 0, NULL));
    bh_snapshot_close(snapshot);
    bh_writer_close(writer);
}

static void
put_domains(struct bh_snapshot_writer *writer, const char *id, int32_t no, uint32_t version,
    const char *domains)
{
    struct bh_tenant_facts facts = facts_of(id, no, version);
    facts.domains = bh_str_of(domains);
    put_one(writer, facts);
}

/* Whose it is; NULL: nobody's. */
static bool
domain_is(struct bh_snapshot *snapshot, const char *host, const char *id)
{
    char found[BH_TENANT_ID_MAX + 1];
    assert_int_equal(bh_snapshot_begin(snapshot, NULL), BH_OK);
    bool known = bh_snapshot_domain(snapshot, bh_str_of(host), found);
    bh_snapshot_end(snapshot);
    return id == NULL ? !known : known && strcmp(found, id) == 0;
}

static void
test_domains(void **state)
{
    (void)state;
    struct bh_snapshot_writer *writer = writer_open();
    struct bh_snapshot *snapshot;
    put_domains(writer, "acme", 1, 1, "shop.acme.example www.acme.example");
    assert_int_equal(bh_writer_reader(writer, &snapshot, NULL), BH_OK);
    assert_true(domain_is(snapshot, "shop.acme.example", "acme"));
    assert_true(domain_is(snapshot, "www.acme.example", "acme"));
    assert_true(domain_is(snapshot, "acme.example", NULL) && domain_is(snapshot, "", NULL));
    put_domains(writer, "acme", 1, 2, "www.acme.example");
    assert_true(domain_is(snapshot, "shop.acme.example", NULL));
    assert_true(domain_is(snapshot, "www.acme.example", "acme"));
    /* Handed over: the old owner's row may come after the new one's. */
    put_domains(writer, "globex", 2, 1, "www.acme.example");
    put_domains(writer, "acme", 1, 3, "");
    assert_true(domain_is(snapshot, "www.acme.example", "globex"));
    /* Another tenant of the same id takes the place of the first one. */
    put_domains(writer, "globex", 3, 1, "new.example");
    assert_true(domain_is(snapshot, "www.acme.example", NULL));
    assert_true(domain_is(snapshot, "new.example", "globex"));
    assert_int_equal(bh_writer_begin(writer, NULL), BH_OK);
    assert_int_equal(bh_writer_remove(writer, 3, 2, NULL), BH_OK);
    assert_int_equal(bh_writer_commit(writer, NULL), BH_OK);
    assert_true(domain_is(snapshot, "new.example", NULL));
    bh_snapshot_close(snapshot);
    bh_writer_close(writer);
}

/* A process that reads tenant ${no} when it is told to, and says whether it is there. */
static pid_t
spawn_reader(int to[2], int from[2])
{
    assert_int_equal(pipe(to), 0);
    assert_int_equal(pipe(from), 0);
    pid_t pid = fork();
    if (pid != 0) {
        close(to[0]);
        close(from[1]);
        return pid;
    }
    close(to[1]);
    struct bh_snapshot *snapshot;
    int32_t no;
    if (bh_snapshot_open(path, &snapshot, NULL) != BH_OK) {
        _exit(2);
    }
    while (read(to[0], &no, sizeof(no)) == sizeof(no)) {
        struct bh_record record;
        char found = '!';
        if (bh_snapshot_begin(snapshot, NULL) == BH_OK) {
            found = bh_snapshot_find(snapshot, no, &record) ? 'y' : 'n';
            bh_snapshot_end(snapshot);
        }
        if (write(from[1], &found, 1) != 1) {
            break;
        }
    }
    _exit(0);
}

static char
ask(int to, int from, int32_t no)
{
    char answer = '?';
    assert_int_equal(write(to, &no, sizeof(no)), sizeof(no));
    assert_int_equal(read(from, &answer, 1), 1);
    return answer;
}

#define SMALL ((size_t)1 << 20)

static void
test_map_growth(void **state)
{
    (void)state;
    struct bh_snapshot_writer *writer;
    assert_int_equal(bh_writer_open_sized(path, SMALL, &writer, NULL), BH_OK);
    put_one(writer, facts_of("first", 1, 1));
    char data[128];
    struct stat st;
    snprintf(data, sizeof(data), "%s/data.mdb", path);
    int to[2];
    int from[2];
    pid_t reader = spawn_reader(to, from);
    assert_int_equal(ask(to[1], from[0], 1), 'y');
    for (int32_t no = 2; no <= 40000; no += 1000) {
        assert_int_equal(bh_writer_begin(writer, NULL), BH_OK);
        for (int32_t i = no; i < no + 1000; i++) {
            char id[16];
            snprintf(id, sizeof(id), "tenant%d", i);
            struct bh_tenant_facts facts = facts_of(id, i, 1);
            assert_int_equal(bh_writer_put(writer, &facts, NULL), BH_OK);
        }
        assert_int_equal(bh_writer_commit(writer, NULL), BH_OK);
        assert_int_equal(ask(to[1], from[0], no), 'y');
    }
    assert_int_equal(stat(data, &st), 0);
    assert_true((size_t)st.st_size > 3 * SMALL); /* it did outgrow the first map */
    assert_int_equal(ask(to[1], from[0], 50000), 'n');
    close(to[1]);
    int status;
    assert_int_equal(waitpid(reader, &status, 0), reader);
    assert_int_equal(status, 0);
    bh_writer_close(writer);
}

static void
test_crashed_readers(void **state)
{
    (void)state;
    struct bh_snapshot_writer *writer = writer_open();
    put_one(writer, facts_of("acme", 1, 1));
    int to[2];
    int from[2];
    pid_t sibling = spawn_reader(to, from); /* keeps the lock file from being made anew */
    assert_int_equal(ask(to[1], from[0], 1), 'y');
    for (int i = 0; i < BH_SNAPSHOT_READERS + 10; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct bh_snapshot *snapshot;
            bool ok = bh_snapshot_open(path, &snapshot, NULL) == BH_OK &&
                      bh_snapshot_begin(snapshot, NULL) == BH_OK;
            if (ok) {
                kill(getpid(), SIGKILL);
            }
            _exit(3);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
    }
    put_one(writer, facts_of("beta", 2, 1));
    assert_int_equal(ask(to[1], from[0], 2), 'y');
    close(to[1]);
    waitpid(sibling, NULL, 0);
    bh_writer_close(writer);
}

static void
test_replaced(void **state)
{
    (void)state;
    struct bh_snapshot_writer *writer = writer_open();
    put_one(writer, facts_of("acme", 1, 1));
    bh_writer_close(writer);
    struct bh_snapshot *snapshot;
    assert_int_equal(bh_snapshot_open(path, &snapshot, NULL), BH_OK);
    assert_false(bh_snapshot_replaced(snapshot));
    char file[128];
    snprintf(file, sizeof(file), "%s/data.mdb", path);
    assert_int_equal(unlink(file), 0);
    assert_true(bh_snapshot_replaced(snapshot));
    bh_snapshot_close(snapshot);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_not_ready, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(test_record, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(test_versions, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(test_isolation, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(test_one_writer, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(test_format, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(test_documents, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(test_domains, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(test_map_growth, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(test_crashed_readers, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(test_replaced, make_dir, drop_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
