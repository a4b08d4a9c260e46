/* /v1/tenants: what tenants should be, and what they are. */
#include <string.h>

#include "control/api/api.h"
#include "control/api/page.h"
#include "control/api/write.h"
#include "core/host.h"
#include "core/tenantdoc.h"

/* What each state means for who looks: the condition Ready. */
static const struct {
    const char *status;
    const char *reason;
    const char *message;
} ready[BH_TENANT_STATE_COUNT] = {
    [BH_TENANT_PENDING] = {"False", "Pending", "the first onboarding runs"},
    [BH_TENANT_ACTIVE] = {"True", "Active", "the tenant is served"},
    [BH_TENANT_SUSPENDED] = {"False", "Suspended", "the tenant keeps its data and is not served"},
    [BH_TENANT_MOVING] = {"True", "Moving", "the tenant is being moved"},
    [BH_TENANT_FAILED] = {"False", "Failed", "onboarding failed and was undone"},
    [BH_TENANT_OFFBOARDING] = {"False", "Offboarding", "the tenant is being removed"},
    [BH_TENANT_GONE] = {"False", "Gone", "the tenant was removed"},
};

/* The detail of a stored problem, or ${otherwise}. */
static const char *
problem_detail(struct bh_request *request, const char *problem, const char *otherwise)
{
    struct bh_json *value;
    const struct bh_json *detail;
    const char *text = NULL;

    if (problem != NULL &&
        bh_json_parse(bh_str_of(problem), BH_JSON_DEPTH, request->arena, &value, NULL) == BH_OK) {
        detail = bh_json_get(value, "detail");
        if (detail != NULL && detail->kind == BH_JSON_STRING)
            text = bh_text(request, detail->text);
    }
    return text == NULL ? otherwise : text;
}

static void
write_condition(struct bh_writer *w, const char *type, const char *status, const char *reason,
    const char *message)
{
    bh_write_open(w, NULL, '{');
    bh_write_text(w, "type", type);
    bh_write_text(w, "status", status);
    bh_write_text(w, "reason", reason);
    bh_write_text(w, "message", message);
    bh_write_close(w, '}');
}

static void
write_conditions(struct bh_request *request, struct bh_writer *w, const struct bh_tenant *tenant)
{
    enum bh_tenant_state state = BH_TENANT_PENDING;
    bool converged = tenant->observed_generation == tenant->generation;
    const char *message;

    (void)bh_tenant_state_find(bh_str_of(tenant->state), &state);
    message = ready[state].message;
    if (state == BH_TENANT_FAILED)
        message = problem_detail(request, tenant->failure, message);
    bh_write_open(w, "conditions", '[');
    write_condition(w, "Ready", ready[state].status, ready[state].reason, message);
    if (converged)
        write_condition(w, "Converged", "True", "Converged", "all is as desired");
    else if (tenant->operation != NULL)
        write_condition(w, "Converged", "False", "Running", "an operation is at work");
    else
        write_condition(w, "Converged", "False", "Failed",
            problem_detail(request, tenant->failure, "the last operation failed"));
    bh_write_close(w, ']');
}

static void
write_tenant(struct bh_request *request, struct bh_writer *w, const struct bh_tenant *tenant)
{
    const struct bh_api_config *config = request->config;
    char etag[80];

    bh_tenant_etag(tenant, etag);
    bh_write_open(w, NULL, '{');
    bh_write_text(w, "id", tenant->id);
    bh_write_text(w, "uid", tenant->uid);
    bh_write_int(w, "no", tenant->no);
    bh_write_text(w, "name", tenant->name);
    bh_write_text(w, "tier", tenant->tier);
    bh_write_text(w, "state", tenant->state);
    bh_write_int(w, "generation", tenant->generation);
    bh_write_int(w, "observed_generation", tenant->observed_generation);
    bh_write_open(w, "limits", '{');
    bh_write_int(w, "requests_per_second", tenant->limits.rate);
    bh_write_int(w, "burst", tenant->limits.burst);
    bh_write_close(w, '}');
    bh_write_raw(w, "edge", tenant->edge);
    bh_write_raw(w, "domains", tenant->domains);
    bh_write_raw(w, "endpoints", tenant->endpoints);
    bh_write_text(w, "url",
        bh_arena_printf(request->arena, "http://%s.%s:%u/", tenant->id, config->base_domain,
            config->edge_port));
    bh_write_text(w, "database", tenant->database);
    bh_write_text(w, "operation", tenant->operation);
    write_conditions(request, w, tenant);
    bh_write_text(w, "etag", etag);
    bh_write_time(w, "created_at", tenant->created_us);
    bh_write_time(w, "updated_at", tenant->updated_us);
    bh_write_close(w, '}');
}

static void
answer(struct bh_request *request, struct bh_reply *reply, const struct bh_tenant *tenant)
{
    struct bh_writer w = {.buf = &reply->body};
    char etag[80];

    bh_tenant_etag(tenant, etag);
    bh_reply_header(reply, "ETag", bh_arena_strdup(request->arena, etag));
    write_tenant(request, &w, tenant);
}

static void
answer_accepted(struct bh_request *request, struct bh_reply *reply, const struct bh_tenant *tenant)
{
    reply->status = 202;
    bh_reply_header(
        reply, "Location", bh_arena_printf(request->arena, "/v1/operations/%s", tenant->operation));
    answer(request, reply, tenant);
}

/* The id in the path, where it can be one; what cannot be an id names nothing. */
static enum bh_code
path_id(struct bh_request *request, const char **ret_id, struct bh_error *err)
{
    const char *id = bh_text(request, request->params[0]);

    if (id == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    if (bh_tenant_id_check(request->params[0], NULL) != BH_OK)
        return bh_fail(err, BH_E_NOT_FOUND, "there is no tenant of this id");
    *ret_id = id;
    return BH_OK;
}

BH_HANDLER(bh_tenants_list)
{
    struct bh_writer w = {.buf = &reply->body};
    struct bh_list list = {0};
    struct bh_tenant *tenants;
    enum bh_tenant_state state;
    size_t count;
    bool more;

    bh_page_read(request, &list.limit, &list.after);
    list.state = bh_query_get(&request->query, "state");
    list.q = bh_query_get(&request->query, "q");
    if (list.state != NULL && !bh_tenant_state_find(bh_str_of(list.state), &state))
        bh_param_bad(request, "state", "is no state of a tenant");
    if (list.q != NULL && list.q[0] == '\0')
        list.q = NULL;
    BH_TRY(bh_issues_code(&request->issues, err));
    BH_TRY(bh_tenant_list(request->db, request->arena, &list, &tenants, &count, &more, err));
    bh_page_begin(&w);
    for (size_t i = 0; i < count; i++)
        write_tenant(request, &w, &tenants[i]);
    bh_page_end(request, &w, more && count > 0 ? tenants[count - 1].id : NULL);
    return BH_OK;
}

BH_HANDLER(bh_tenants_get)
{
    struct bh_tenant tenant;
    const char *id;

    BH_TRY(path_id(request, &id, err));
    BH_TRY(bh_tenant_get(request->db, request->arena, id, &tenant, err));
    answer(request, reply, &tenant);
    return BH_OK;
}

/* Names under the base domain are tenants' already, by their ids. */
static void
check_domains(struct bh_request *request, const struct bh_json *domains)
{
    struct bh_str base = bh_str_of(request->config->base_domain);
    unsigned index = 0;

    for (const struct bh_json *item = domains == NULL ? NULL : domains->first; item != NULL;
         item = item->next, index++)
        if (item->kind == BH_JSON_STRING && bh_domain_check(item->text, NULL) == BH_OK &&
            bh_host_under(item->text, base))
            (void)bh_issues_add(&request->issues, BH_ISSUE_VALUE, item,
                bh_arena_printf(request->arena, "/domains/%u", index),
                "must not lie under the base domain");
}

static enum bh_code
read_wish(struct bh_request *request, struct bh_tenant_wish *wish, struct bh_error *err)
{
    struct bh_tenant_doc doc;

    bh_tenant_doc_read(request->json, request->params[0], &request->issues, &doc);
    check_domains(request, doc.domains);
    BH_TRY(bh_issues_code(&request->issues, err));
    if (request->if_none_match != NULL && strcmp(request->if_none_match, "*") != 0)
        return bh_fail(err, BH_E_BAD_REQUEST, "If-None-Match may only be * here");
    *wish = (struct bh_tenant_wish){
        .id = bh_text(request, doc.id),
        .name = bh_text(request, doc.name),
        .tier = bh_text(request, doc.tier),
        .limits = {(int32_t)doc.rate, (int32_t)doc.burst},
        .edge = bh_json_text_of(request, doc.edge, "{}"),
        .domains = bh_json_text_of(request, doc.domains, "[]"),
        .endpoints = bh_json_text_of(request, doc.endpoints, "[]"),
        .if_match = request->if_match,
        .create_only = request->if_none_match != NULL,
    };
    if (wish->id == NULL || wish->name == NULL || wish->tier == NULL || wish->edge == NULL ||
        wish->domains == NULL || wish->endpoints == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    return BH_OK;
}

BH_HANDLER(bh_tenants_put)
{
    struct bh_tenant_wish wish;
    struct bh_tenant tenant;
    enum bh_change change;

    BH_TRY(read_wish(request, &wish, err));
    BH_TRY(bh_tenant_put(request->db, request->arena, &wish, &tenant, &change, err));
    if (change != BH_CHANGE_NONE && tenant.operation != NULL &&
        tenant.observed_generation != tenant.generation)
        answer_accepted(request, reply, &tenant);
    else
        answer(request, reply, &tenant);
    return BH_OK;
}

/* Deletion takes effect at once; the parameter says that this is understood. */
static enum bh_code
check_now(struct bh_request *request, struct bh_error *err)
{
    const char *now = bh_query_get(&request->query, "now");

    if (now != NULL && strcmp(now, "true") == 0)
        return bh_issues_code(&request->issues, err);
    if (request->issues.first == NULL)
        bh_param_bad(request, "now", now == NULL ? "is required" : "must be true");
    if (bh_issues_code(&request->issues, err) == BH_E_INVALID)
        return bh_hint(
            err, "deletion with a grace period does not exist yet; repeat with ?now=true");
    return BH_E_NO_MEMORY;
}

BH_HANDLER(bh_tenants_delete)
{
    struct bh_tenant tenant;
    const char *id;

    BH_TRY(check_now(request, err));
    BH_TRY(path_id(request, &id, err));
    BH_TRY(bh_tenant_delete(request->db, request->arena, id, request->if_match, &tenant, err));
    answer_accepted(request, reply, &tenant);
    return BH_OK;
}
