#include "postgres.h"

#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "commands/seclabel.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

#include "data/label.h"

#define PROVIDER "bulkhead"
#define SHARED "shared"

struct known {
    Oid relid;
    bool shared;
};

/* pg_seclabel has no system cache, and a statement asks for each of its tables. */
static HTAB *cache;

static void
forget(Datum arg pg_attribute_unused(), Oid relid)
{
    if (cache == NULL)
        return;
    if (OidIsValid(relid)) {
        hash_search(cache, &relid, HASH_REMOVE, NULL);
        return;
    }
    hash_destroy(cache);
    cache = NULL;
}

static void
make_cache(void)
{
    HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(struct known)};

    cache = hash_create("bulkhead labels", 64, &control, HASH_ELEM | HASH_BLOBS);
}

static bool
is_table(const ObjectAddress *object)
{
    char kind;

    if (object->classId != RelationRelationId || object->objectSubId != 0)
        return false;
    kind = get_rel_relkind(object->objectId);
    return kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE;
}

/* Before a label is set, or removed (then it is NULL). */
static void
check_label(const ObjectAddress *object, const char *label)
{
    if (!superuser())
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                           errmsg("only superusers may set labels of \"%s\"", PROVIDER)));
    if (!is_table(object))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                           errmsg("labels of \"%s\" are for tables only", PROVIDER)));
    if (label != NULL && strcmp(label, SHARED) != 0)
        ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                errmsg("\"%s\" knows no label \"%s\"", PROVIDER, label),
                errhint("The label is '%s': reference data that all tenants may read.", SHARED)));
    /* Sent when the transaction commits: then every backend looks again. */
    CacheInvalidateRelcacheByRelid(object->objectId);
}

static bool
read_label(Oid relid)
{
    ObjectAddress object = {RelationRelationId, relid, 0};
    char *label = GetSecurityLabel(&object, PROVIDER);
    bool shared = label != NULL && strcmp(label, SHARED) == 0;

    if (label != NULL)
        pfree(label);
    return shared;
}

bool
bh_label_shared(Oid relid)
{
    struct known *entry = NULL;
    bool shared;

    if (cache != NULL)
        entry = hash_search(cache, &relid, HASH_FIND, NULL);
    if (entry != NULL)
        return entry->shared;
    shared = read_label(relid); /* may take in invalidations, so the cache comes after it */
    if (cache == NULL)
        make_cache();
    entry = hash_search(cache, &relid, HASH_ENTER, NULL);
    entry->shared = shared;
    return shared;
}

void
bh_label_register(void)
{
    register_label_provider(PROVIDER, check_label);
    CacheRegisterRelcacheCallback(forget, (Datum)0);
}
