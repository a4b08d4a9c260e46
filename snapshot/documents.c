/* Documents as LMDB keeps them: uint64 version, then the body. */
#include <string.h>

#include "snapshot/layout.h"

bool
bh_document_split(MDB_val value, struct bh_document *ret_document)
{
    if (value.mv_size < sizeof(ret_document->version)) {
        return false;
    }
    const char *data = value.mv_data;
    memcpy(&ret_document->version, data, sizeof(ret_document->version));
    ret_document->body = (struct bh_str){
        data + sizeof(ret_document->version), value.mv_size - sizeof(ret_document->version)};
    return true;
}

static bool
is_newer(MDB_txn *txn, MDB_dbi table, MDB_val name, uint64_t version)
{
    MDB_val value;
    struct bh_document stored;
    return mdb_get(txn, table, &name, &value) == 0 && bh_document_split(value, &stored) &&
           stored.version > version;
}

int
bh_document_put(MDB_txn *txn, MDB_dbi table, struct bh_str name, const struct bh_document *document)
{
    MDB_val key = {name.len, (void *)(uintptr_t)name.data};
    MDB_val value = {sizeof(document->version) + document->body.len, NULL};
    if (is_newer(txn, table, key, document->version)) {
        return 0;
    }
    if (document->body.data == NULL) {
        int rc = mdb_del(txn, table, &key, NULL);
        return rc == MDB_NOTFOUND ? 0 : rc;
    }
    int rc = mdb_put(txn, table, &key, &value, MDB_RESERVE);
    if (rc == 0) {
        memcpy(value.mv_data, &document->version, sizeof(document->version));
        memcpy((char *)value.mv_data + sizeof(document->version), document->body.data,
            document->body.len);
    }
    return rc;
}
