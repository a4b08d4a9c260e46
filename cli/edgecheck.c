/*
 * What an nginx configuration may not say, or the edge's isolation is not what it seems.  Each
 * check is a row of the table at the end; those that the module itself can see are refused at its
 * start.
 */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "cli/doctor.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SAY(d, where, next, ...) bh_doctor_say((d), BH_FINDING_ERROR, (where), (next), __VA_ARGS__)
#define EACH(root, conf)                                                                           \
    for (const struct bh_conf *conf = (root); conf != NULL; conf = bh_conf_next((root), conf))

/* Modules that pass requests on, by the first word of their directives. */
static const char *const protocols[] = {"proxy", "grpc", "fastcgi", "uwsgi", "scgi"};

static bool
is_one(const struct bh_conf *conf, const char *protocol, const char *rest)
{
    size_t len = strlen(protocol);

    return strncmp(conf->name, protocol, len) == 0 && strcmp(conf->name + len, rest) == 0;
}

/* The module whose directive `<module><rest>` it is, or NULL. */
static const char *
protocol_of(const struct bh_conf *conf, const char *rest)
{
    for (size_t i = 0; i < COUNT(protocols); i++)
        if (is_one(conf, protocols[i], rest))
            return protocols[i];
    return NULL;
}

static const struct bh_conf *
setting(struct bh_doctor *d, const struct bh_conf *place, const char *protocol, const char *rest)
{
    const char *name = bh_arena_printf(d->cli->arena, "%s%s", protocol, rest);

    return name == NULL ? NULL : bh_conf_here(place, name);
}

/* `bulkhead` of the server that ${conf} stands in: "on", "observe" or "off". */
static const char *
mode_of(const struct bh_conf *conf)
{
    const struct bh_conf *server = bh_conf_around(conf, "server");
    const char *mode = bh_conf_arg(server == NULL ? NULL : bh_conf_here(server, "bulkhead"), 0);

    return *mode == '\0' ? "off" : mode;
}

static bool
is_on(const struct bh_conf *conf)
{
    return strcmp(mode_of(conf), "on") == 0;
}

/* The upstream block that a pass names, or NULL: an address, a variable, another scheme. */
static const struct bh_conf *
upstream_of(const struct bh_conf *root, const struct bh_conf *pass)
{
    const char *target = bh_conf_arg(pass, 0);
    const char *scheme = strstr(target, "://");
    const char *name = scheme == NULL ? target : scheme + 3;
    size_t len = strcspn(name, "/");

    EACH(root, conf)
    if (bh_conf_is(conf, "upstream") && strlen(bh_conf_arg(conf, 0)) == len &&
        strncmp(bh_conf_arg(conf, 0), name, len) == 0)
        return conf;
    return NULL;
}

static bool
leads_to_tenants(const struct bh_conf *root, const struct bh_conf *pass)
{
    const struct bh_conf *upstream = upstream_of(root, pass);

    return upstream != NULL && bh_conf_child(upstream, "bulkhead") != NULL;
}

/* ---- who is asked ---- */

static void
check_present(struct bh_doctor *d, const struct bh_conf *root)
{
    EACH(root, conf)
    if (bh_conf_is(conf, "server") && strcmp(mode_of(conf), "off") != 0)
        return;
    SAY(d, root, "write `bulkhead on;` into the server blocks of tenants",
        "no server block has the edge on");
}

/* The address of a listen, in one spelling. */
static const char *
address_of(struct bh_doctor *d, const struct bh_conf *listen)
{
    const char *given = listen == NULL ? "80" : bh_conf_arg(listen, 0);
    const char *colon = strrchr(given, ':');

    if (given[strspn(given, "0123456789")] == '\0')
        return bh_arena_printf(d->cli->arena, "*:%s", given);
    if (strncmp(given, "unix:", 5) == 0 || (colon != NULL && strchr(colon, ']') == NULL))
        return given;
    return bh_arena_printf(d->cli->arena, "%s:80", given);
}

static bool
is_default(const struct bh_conf *listen)
{
    for (size_t i = 1; listen != NULL && i < listen->arg_count; i++)
        if (strcmp(listen->args[i], "default_server") == 0 ||
            strcmp(listen->args[i], "default") == 0)
            return true;
    return false;
}

/* The server that gets what no server_name of ${address} matches. */
static const struct bh_conf *
default_server(struct bh_doctor *d, const struct bh_conf *root, const char *address)
{
    const struct bh_conf *first = NULL;

    EACH(root, conf)
    {
        bool implied = bh_conf_is(conf, "server") && bh_conf_child(conf, "listen") == NULL;
        if (!implied && !(bh_conf_is(conf, "listen") && bh_conf_is(conf->parent, "server")))
            continue;
        const char *mine = address_of(d, implied ? NULL : conf);
        const struct bh_conf *server = implied ? conf : conf->parent;
        if (mine == NULL || strcmp(mine, address) != 0)
            continue;
        if (!implied && is_default(conf))
            return server;
        if (first == NULL)
            first = server;
    }
    return first;
}

static bool
passes_on(const struct bh_conf *server)
{
    EACH(server, conf)
    if (protocol_of(conf, "_pass") != NULL)
        return true;
    return false;
}

static void
check_default(struct bh_doctor *d, const struct bh_conf *root)
{
    EACH(root, conf)
    {
        if (!bh_conf_is(conf, "listen") || strcmp(mode_of(conf), "off") == 0)
            continue;
        const char *address = address_of(d, conf);
        const struct bh_conf *server = address == NULL ? NULL : default_server(d, root, address);
        if (server != NULL && strcmp(mode_of(server), "off") == 0 && passes_on(server))
            SAY(d, server, "mark the server with `bulkhead on` as default_server",
                "the default server of %s passes requests on and has the edge off: a host that is "
                "no tenant's gets there unseen",
                address);
    }
}

static void
check_off(struct bh_doctor *d, const struct bh_conf *root)
{
    EACH(root, conf)
    if (protocol_of(conf, "_pass") != NULL && strcmp(mode_of(conf), "off") == 0 &&
        bh_conf_around(conf, "server") != NULL && leads_to_tenants(root, conf))
        SAY(d, conf, "write `bulkhead on;` into that server block, or take the pass out",
            "a server with the edge off passes requests to the tenants' upstream %s: all are "
            "500",
            bh_conf_arg(conf, 0));
}

static void
check_pass(struct bh_doctor *d, const struct bh_conf *root)
{
    EACH(root, conf)
    if (protocol_of(conf, "_pass") != NULL && is_on(conf) && !leads_to_tenants(root, conf))
        SAY(d, conf, "pass to an upstream block with `bulkhead;` in it",
            "%s goes to \"%s\" for every tenant, whatever its record says", conf->name,
            bh_conf_arg(conf, 0));
}

static void
check_websocket(struct bh_doctor *d, const struct bh_conf *root)
{
    EACH(root, conf)
    {
        if (!bh_conf_is(conf, "server") || !is_on(conf))
            continue;
        const char *name = bh_conf_arg(bh_conf_here(conf, "bulkhead_websocket"), 0);
        bool there = *name == '\0';
        for (const struct bh_conf *in = conf->first; in != NULL; in = in->next)
            there = there || (bh_conf_is(in, "location") && strcmp(bh_conf_arg(in, 0), name) == 0);
        if (!there)
            SAY(d, conf, "add that location to the server block",
                "bulkhead_websocket names the location %s, which the server does not have", name);
    }
}

/* ---- what the application is told ---- */

/* Names that speak for the edge; one that ends in '-' stands for all that begin so. */
static const struct {
    const char *name;
    const char *values[3]; /* that say the same as the edge does */
} spoken[] = {
    {"X-Tenant-ID", {"$bulkhead_tenant"}},
    {"X-Tenant-Tier", {"$bulkhead_tier"}},
    {"X-Scope-OrgID", {"$bulkhead_tenant"}},
    {"X-Tenant-", {NULL}},
    {"X-Bulkhead-", {NULL}},
    {"X-Forwarded-", {NULL}},
    {"X-Original-", {NULL}},
    {"X-Rewrite-", {NULL}},
    {"X-Request-Id", {"$bulkhead_request_id"}},
    {"Forwarded", {NULL}},
    {"Authorization", {""}},
    {"Host", {"$host", "$http_host"}},
};

/* X-Tenant-ID of X-Tenant-ID, X_Tenant_Id and HTTP_X_TENANT_ID. */
static bool
is_name(const char *given, const char *name)
{
    bool all = name[strlen(name) - 1] != '-';

    for (; *name != '\0'; name++, given++)
        if ((*given == '_' ? '-' : tolower((unsigned char)*given)) != tolower((unsigned char)*name))
            return false;
    return !all || *given == '\0';
}

static void
check_name(struct bh_doctor *d, const struct bh_conf *conf, const char *name, const char *value)
{
    for (size_t i = 0; i < COUNT(spoken); i++) {
        if (!is_name(name, spoken[i].name))
            continue;
        for (size_t j = 0; j < COUNT(spoken[i].values) && spoken[i].values[j] != NULL; j++)
            if (strcmp(value, spoken[i].values[j]) == 0)
                return;
        SAY(d, conf, "take the line out: the edge sets or removes this header by itself",
            "%s replaces what the edge says in %s by \"%s\"", conf->name, name, value);
        return;
    }
}

static void
check_headers(struct bh_doctor *d, const struct bh_conf *root)
{
    EACH(root, conf)
    {
        /* Those of http hold in every server that has none of its own. */
        if (!is_on(conf) && bh_conf_around(conf, "server") != NULL)
            continue;
        if (protocol_of(conf, "_set_header") != NULL)
            check_name(d, conf, bh_conf_arg(conf, 0), bh_conf_arg(conf, 1));
        else if (protocol_of(conf, "_param") != NULL &&
                 strncasecmp(bh_conf_arg(conf, 0), "HTTP_", 5) == 0)
            check_name(d, conf, bh_conf_arg(conf, 0) + 5, bh_conf_arg(conf, 1));
        else if (protocol_of(conf, "_pass_request_headers") != NULL &&
                 strcmp(bh_conf_arg(conf, 0), "off") == 0)
            SAY(d, conf, "take the line out",
                "%s off keeps the tenant's headers from the application", conf->name);
    }
}

static void
check_underscores(struct bh_doctor *d, const struct bh_conf *root)
{
    static const char *const rows[][2] = {
        {"underscores_in_headers", "on"}, {"ignore_invalid_headers", "off"}};

    EACH(root, conf)
    for (size_t i = 0; i < COUNT(rows); i++)
        if (bh_conf_is(conf, rows[i][0]) && strcmp(bh_conf_arg(conf, 0), rows[i][1]) == 0)
            SAY(d, conf, "take the line out",
                "%s %s lets names in that an application may read as another header's", rows[i][0],
                rows[i][1]);
}

/* ---- what applications tell nginx ---- */

static void
check_accel(struct bh_doctor *d, const struct bh_conf *root)
{
    EACH(root, conf)
    {
        const char *protocol = protocol_of(conf, "_pass");
        bool ignored = false;
        if (protocol == NULL || !is_on(conf))
            continue;
        const struct bh_conf *list = setting(d, conf->parent, protocol, "_ignore_headers");
        for (size_t i = 0; list != NULL && i < list->arg_count; i++)
            ignored = ignored || strcasecmp(list->args[i], "X-Accel-Redirect") == 0;
        if (!ignored)
            SAY(d, conf,
                bh_arena_printf(d->cli->arena,
                    "write `%s_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate "
                    "X-Accel-Buffering X-Accel-Charset;`",
                    protocol),
                "an application steers nginx with X-Accel-Redirect");
    }
}

/* ---- what is kept ---- */

/* Begins the key with the tenant's number, and something that can be no further digit of it? */
static bool
is_tenants_key(const char *key)
{
    static const char *const beginnings[] = {"$bulkhead_tenant_no", "${bulkhead_tenant_no}"};

    for (size_t i = 0; i < COUNT(beginnings); i++) {
        size_t len = strlen(beginnings[i]);
        if (strncmp(key, beginnings[i], len) == 0 && key[len] != '\0' && key[len] != '$' &&
            key[len] != '_' && !isalnum((unsigned char)key[len]))
            return true;
    }
    return false;
}

static void
check_cache(struct bh_doctor *d, const struct bh_conf *root)
{
    EACH(root, conf)
    {
        const char *protocol = protocol_of(conf, "_pass");
        if (protocol == NULL || !is_on(conf))
            continue;
        const struct bh_conf *cache = setting(d, conf->parent, protocol, "_cache");
        const struct bh_conf *key = setting(d, conf->parent, protocol, "_cache_key");
        const struct bh_conf *store = setting(d, conf->parent, protocol, "_store");
        if (cache != NULL && strcmp(bh_conf_arg(cache, 0), "off") != 0 &&
            !is_tenants_key(bh_conf_arg(key, 0)))
            SAY(d, key != NULL ? key : cache,
                bh_arena_printf(d->cli->arena,
                    "write `%s_cache_key \"$bulkhead_tenant_no:$request_uri\";`", protocol),
                "a cache key without the tenant: the edge answers 500 rather than one tenant's "
                "page to another");
        if (store != NULL && strcmp(bh_conf_arg(store, 0), "off") != 0)
            SAY(d, store, "take the line out", "%s keeps files for all tenants together",
                store->name);
    }
}

static void
check_log(struct bh_doctor *d, const struct bh_conf *root)
{
    static const char *const secrets[] = {"$http_authorization", "$http_cookie", "$request_uri",
        "$args", "$query_string", "$sent_http_set_cookie", "$upstream_http_set_cookie"};

    EACH(root, conf)
    for (size_t i = 0; bh_conf_is(conf, "log_format") && i < conf->arg_count; i++)
        for (size_t j = 0; j < COUNT(secrets); j++)
            if (strstr(conf->args[i], secrets[j]) != NULL)
                bh_doctor_say(d, BH_FINDING_WARNING, conf,
                    "use the log format of deploy/local/nginx.conf",
                    "log_format %s writes %s, where secrets are", bh_conf_arg(conf, 0), secrets[j]);
}

/* ---- whom we believe ---- */

static void
check_real_ip(struct bh_doctor *d, const struct bh_conf *root)
{
    EACH(root, conf)
    {
        const char *net = bh_conf_arg(conf, 0);
        const char *slash = strchr(net, '/');
        uint64_t bits;
        if (!bh_conf_is(conf, "set_real_ip_from") || slash == NULL)
            continue;
        /* What is no number is told too: nothing says that it is narrow. */
        if (!bh_str_uint(bh_str_of(slash + 1), 128, &bits) || bits < 8)
            SAY(d, conf, "name the addresses of your own proxies only",
                "set_real_ip_from %s lets every client choose its address, which the limit of "
                "wrong credentials and X-Forwarded-For go by",
                net);
    }
}

static const struct {
    const char *name;
    const char *fine;
    void (*run)(struct bh_doctor *d, const struct bh_conf *root);
} checks[] = {
    {"edge on", "a server block has the edge on", check_present},
    {"default server", "who names no tenant gets to no application", check_default},
    {"edge off", "no server with the edge off leads to tenants", check_off},
    {"upstream", "requests go where the tenants' records say", check_pass},
    {"websocket", "tunnels have their location", check_websocket},
    {"forwarded headers", "nothing replaces what the edge tells applications", check_headers},
    {"header names", "odd header names are kept out", check_underscores},
    {"X-Accel", "applications do not steer nginx", check_accel},
    {"cache", "nothing is kept for tenants together", check_cache},
    {"access log", "no log format writes secrets", check_log},
    {"real ip", "clients do not choose their address", check_real_ip},
};

void
bh_doctor_edge(struct bh_doctor *doctor, const struct bh_conf *conf)
{
    for (size_t i = 0; i < COUNT(checks); i++) {
        bh_doctor_begin(doctor, checks[i].name);
        checks[i].run(doctor, conf);
        bh_doctor_end(doctor, checks[i].fine);
    }
}
