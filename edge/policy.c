/*
 * The policies that this worker read lately, parsed.  Tenants of a tier share one; a request holds
 * the one that it began with until it ends, whatever is committed meanwhile.
 */
#include "edge/edge.h"

#define PLACES 4096 /* a power of two */

static struct bh_edge_policy *places[PLACES]; /* by number; whoever comes later takes the place */

struct bh_edge_policy *
bh_edge_policy_hold(struct bh_edge_policy *policy)
{
    if (policy != NULL) {
        policy->holders++;
    }
    return policy;
}

void
bh_edge_policy_drop(struct bh_edge_policy *policy)
{
    if (policy == NULL || --policy->holders > 0) {
        return;
    }
    bh_chunks_fini(&policy->chunks);
    ngx_free(policy);
}

/* Of tenants whose record names none. */
static struct bh_edge_policy *
defaults(void)
{
    static struct bh_edge_policy *policy;
    if (policy == NULL && (policy = bh_edge_keep(sizeof(*policy))) != NULL) {
        bh_chunks_init(&policy->chunks);
        policy->holders = 1;
        policy->usable =
            bh_policy_parse(BH_STR("{}"), &policy->chunks.arena, &policy->policy, NULL) == BH_OK;
        policy->print = bh_edge_print(BH_STR("{}"));
    }
    return policy;
}

/* Strings of the policy point into the parsed text: it is copied, LMDB's pages are not ours. */
static void
parse(struct bh_edge_policy *policy, struct bh_str name, struct bh_str body, ngx_log_t *log)
{
    struct bh_error err;
    char *copy = bh_arena_strndup(&policy->chunks.arena, body.data, body.len);
    enum bh_code code = copy == NULL ? BH_E_NO_MEMORY
                                     : bh_policy_parse((struct bh_str){copy, body.len},
                                           &policy->chunks.arena, &policy->policy, &err);
    policy->usable = code == BH_OK;
    if (code != BH_OK) {
        ngx_log_error(NGX_LOG_ERR, log, 0, "bulkhead: policy %*s: %s at %s: its tenants wait",
            name.len, name.data, copy == NULL ? "no memory" : err.detail,
            copy == NULL ? "" : err.pointer);
    }
}

static struct bh_edge_policy *
read_policy(uint32_t number, struct bh_str name, ngx_log_t *log)
{
    char text[BH_DOCUMENT_NAME_MAX + 1];
    struct bh_buf full;
    struct bh_document document;
    struct bh_edge_policy **place = &places[number & (PLACES - 1)];
    bh_buf_init(&full, text, sizeof(text));
    bh_buf_puts(&full, "policy/");
    bh_buf_str_add(&full, name);
    if (!bh_buf_ok(&full) ||
        !bh_snapshot_document(bh_edge.snapshot, bh_buf_str(&full), &document)) {
        return NULL;
    }
    struct bh_edge_policy *policy = *place;
    if (policy != NULL && policy->number == number && policy->version == document.version &&
        policy->generation == bh_edge.generation) {
        return policy;
    }
    policy = bh_edge_keep(sizeof(*policy));
    if (policy == NULL) {
        return NULL;
    }
    *policy = (struct bh_edge_policy){.number = number,
        .version = document.version,
        .generation = bh_edge.generation,
        .print = bh_edge_print(document.body),
        .holders = 1};
    bh_chunks_init(&policy->chunks);
    parse(policy, name, document.body, log);
    bh_edge_policy_drop(*place);
    *place = policy;
    return policy;
}

struct bh_edge_policy *
bh_edge_policy_find(uint32_t number, ngx_log_t *log)
{
    struct bh_edge_policy *policy =
        number == 0 ? defaults() : read_policy(number, bh_edge_name(BH_NAME_POLICY, number), log);
    return policy != NULL && policy->usable ? policy : NULL;
}
