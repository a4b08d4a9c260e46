#include "edge/endpoints.h"

#include "core/endpoint.h"

#define NUMBERS_MAX (1 << 24)
#define DOWN_MS 10000 /* as nginx: max_fails=1 fail_timeout=10s */

_Static_assert(BH_ENDPOINTS_MAX <= 64, "a choice has a bit for each address");

/* Sets by number; names are immutable, so a parsed set is kept for the worker's life. */
static struct {
    uint64_t generation; /* numbers mean something in this snapshot only */
    struct bh_edge_endpoints **sets;
    size_t count;
} known;

/* ---- reading ---- */

/* Room for the mark stays behind the path's NUL. */
static bool
parse_unix(struct bh_str text, struct bh_edge_address *address)
{
    struct sockaddr_un *un = &address->sockaddr.sockaddr_un;
    size_t len = text.len - 5;
    if (len == 0 || len + 1 + sizeof(uint32_t) > sizeof(un->sun_path)) {
        return false;
    }
    un->sun_family = AF_UNIX;
    ngx_memcpy(un->sun_path, text.data + 5, len);
    address->socklen = (socklen_t)sizeof(*un);
    return true;
}

static bool
parse_inet(struct bh_str text, struct bh_edge_address *address, ngx_pool_t *pool)
{
    ngx_addr_t parsed;
    if (ngx_parse_addr_port(pool, &parsed, (u_char *)(uintptr_t)text.data, text.len) != NGX_OK ||
        ngx_inet_get_port(parsed.sockaddr) == 0) {
        return false;
    }
    ngx_memcpy(&address->sockaddr, parsed.sockaddr, parsed.socklen);
    address->socklen = parsed.socklen;
    return true;
}

static ngx_str_t
borrow(struct bh_str text)
{
    return (ngx_str_t){text.len, (u_char *)(uintptr_t)text.data};
}

static ngx_uint_t
group_of(struct bh_edge_endpoints *set, struct bh_str groups[], struct bh_str name)
{
    ngx_uint_t group = 0;
    while (group < set->groups && !bh_str_eq(groups[group], name)) {
        group++;
    }
    if (group == set->groups) {
        groups[set->groups++] = name;
    }
    return group;
}

static bool
parse(struct bh_edge_endpoints *set, struct bh_str groups[], struct bh_str text, ngx_pool_t *pool)
{
    struct bh_endpoint endpoint;
    struct bh_edge_address *address = &set->addresses[set->count];
    if (bh_endpoint_parse(text, &endpoint, NULL) != BH_OK) {
        return false;
    }
    address->name = borrow(endpoint.address);
    address->tls = borrow(endpoint.tls);
    address->weight = (int32_t)endpoint.weight;
    address->grpc = endpoint.grpc;
    address->backup = endpoint.backup;
    address->group = group_of(set, groups, endpoint.group);
    set->count++;
    return bh_str_starts(endpoint.address, "unix:") ? parse_unix(endpoint.address, address)
                                                    : parse_inet(endpoint.address, address, pool);
}

static bool
parse_all(struct bh_edge_endpoints *set, struct bh_str text, ngx_log_t *log)
{
    struct bh_str groups[BH_ENDPOINTS_MAX];
    ngx_pool_t *pool = ngx_create_pool(1024, log);
    bool ok = pool != NULL;
    for (bool more = true; ok && more;) {
        struct bh_str one = text;
        more = bh_str_cut(text, ' ', &one, &text);
        ok = set->count < BH_ENDPOINTS_MAX && parse(set, groups, one, pool);
    }
    if (pool != NULL) {
        ngx_destroy_pool(pool);
    }
    return ok;
}

static struct bh_edge_endpoints *
parse_set(struct bh_str text, ngx_log_t *log)
{
    ngx_uint_t count = 1;
    for (size_t i = 0; i < text.len; i++) {
        count += text.data[i] == ' ';
    }
    struct bh_edge_endpoints *set =
        count > BH_ENDPOINTS_MAX
            ? NULL
            : bh_edge_keep(sizeof(*set) + count * sizeof(struct bh_edge_address));
    if (set != NULL && !parse_all(set, text, log)) {
        ngx_free(set);
        set = NULL;
    }
    return set;
}

static bool
reserve(uint32_t number)
{
    if (known.generation != bh_edge.generation) { /* requests in flight may hold the old sets */
        ngx_memzero(&known, sizeof(known));
        known.generation = bh_edge.generation;
    }
    if (number < known.count) {
        return true;
    }
    size_t count = known.count == 0 ? 64 : known.count;
    while (count <= number) {
        count *= 2;
    }
    struct bh_edge_endpoints **sets = bh_edge_keep(count * sizeof(struct bh_edge_endpoints *));
    if (sets == NULL) {
        return false;
    }
    if (known.count > 0) {
        ngx_memcpy(sets, known.sets, known.count * sizeof(struct bh_edge_endpoints *));
    }
    ngx_free(known.sets);
    known.sets = sets;
    known.count = count;
    return true;
}

struct bh_edge_endpoints *
bh_edge_endpoints(uint32_t number, ngx_log_t *log)
{
    if (number == 0 || number >= NUMBERS_MAX || !reserve(number)) {
        return NULL;
    }
    if (known.sets[number] == NULL) {
        struct bh_str text = bh_edge_name(BH_NAME_ENDPOINTS, number);
        known.sets[number] = parse_set(text, log);
        if (known.sets[number] == NULL) {
            ngx_log_error(NGX_LOG_ERR, log, 0, "bulkhead: no usable endpoints in \"%*s\"", text.len,
                text.data);
        }
    }
    return known.sets[number];
}

/* ---- choosing ---- */

static bool
is_up(const struct bh_edge_address *address)
{
    return !address->failed || (ngx_msec_int_t)(ngx_current_msec - address->up_at) >= 0;
}

/* Weight of a group, of all where ${group} is the number of groups; backups do not count. */
static uint32_t
weight_of(const struct bh_edge_endpoints *set, bool grpc, ngx_uint_t group)
{
    uint32_t sum = 0;
    for (ngx_uint_t i = 0; i < set->count; i++) {
        const struct bh_edge_address *address = &set->addresses[i];
        if (address->grpc == grpc && !address->backup &&
            (group == set->groups || address->group == group)) {
            sum += (uint32_t)address->weight;
        }
    }
    return sum;
}

/*
 * Groups lie side by side in the order of the record, each as wide as its
 * weights, and the hash is a place on that line: where weight moves from one to
 * the next, only the users at that border do.
 */
static ngx_uint_t
pick_group(const struct bh_edge_endpoints *set, bool grpc, uint32_t hash)
{
    if (set->groups < 2) {
        return 0;
    }
    uint64_t at = (uint64_t)hash * weight_of(set, grpc, set->groups) >> 32;
    uint32_t sum = 0;
    for (ngx_uint_t group = 0; group < set->groups; group++) {
        sum += weight_of(set, grpc, group);
        if (at < sum) {
            return group;
        }
    }
    return 0;
}

void
bh_edge_endpoints_begin(
    struct bh_edge_choice *choice, struct bh_edge_endpoints *set, bool grpc, uint32_t hash)
{
    *choice =
        (struct bh_edge_choice){.set = set, .group = pick_group(set, grpc, hash), .grpc = grpc};
}

ngx_uint_t
bh_edge_endpoints_usable(const struct bh_edge_choice *choice)
{
    ngx_uint_t count = 0;
    for (ngx_uint_t i = 0; i < choice->set->count; i++) {
        count += choice->set->addresses[i].grpc == choice->grpc;
    }
    return count;
}

/* Smooth weighted round robin (as nginx's) among those that qualify. */
static struct bh_edge_address *
take_turn(struct bh_edge_choice *choice, bool any_group, bool backup, bool any_health)
{
    struct bh_edge_address *best = NULL;
    int32_t total = 0;
    for (ngx_uint_t i = 0; i < choice->set->count; i++) {
        struct bh_edge_address *address = &choice->set->addresses[i];
        if (address->grpc != choice->grpc || address->backup != backup ||
            (choice->tried & UINT64_C(1) << i) != 0 ||
            (!any_group && address->group != choice->group) || (!any_health && !is_up(address))) {
            continue;
        }
        address->current += address->weight;
        total += address->weight;
        if (best == NULL || address->current > best->current) {
            best = address;
        }
    }
    if (best != NULL) {
        best->current -= total;
        choice->tried |= UINT64_C(1) << (best - choice->set->addresses);
    }
    return best;
}

struct bh_edge_address *
bh_edge_endpoints_next(struct bh_edge_choice *choice)
{
    static const struct {
        bool any_group, backup, any_health;
    } order[] = {
        {false, false, false},
        {false, true, false},
        {true, false, false},
        {true, true, false},
        {false, false, true}, /* all failed lately: try one all the same */
        {true, false, true},
        {true, true, true},
    };
    struct bh_edge_address *address = NULL;
    for (size_t i = 0; address == NULL && i < sizeof(order) / sizeof(order[0]); i++) {
        address = take_turn(choice, order[i].any_group, order[i].backup, order[i].any_health);
    }
    return address;
}

void
bh_edge_endpoints_untry(struct bh_edge_choice *choice, const struct bh_edge_address *address)
{
    choice->tried &= ~(UINT64_C(1) << (address - choice->set->addresses));
}

bool
bh_edge_address_failed(struct bh_edge_address *address)
{
    bool worked = is_up(address);
    address->failed = true;
    address->up_at = ngx_current_msec + DOWN_MS;
    return worked;
}

void
bh_edge_address_works(struct bh_edge_address *address)
{
    address->failed = false;
}

/* ---- channels ---- */

uint32_t
bh_edge_channel_number(void)
{
    static uint32_t last;
    return ++last;
}

struct bh_edge_channel *
bh_edge_address_channel(struct bh_edge_address *address, const void *ssl)
{
    if (address->channels == NULL) {
        address->channels = bh_edge_keep(BH_EDGE_CHANNELS_MAX * sizeof(*address->channels));
    }
    for (size_t i = 0; address->channels != NULL && i < BH_EDGE_CHANNELS_MAX; i++) {
        struct bh_edge_channel *channel = &address->channels[i];
        if (channel->number == 0) {
            *channel = (struct bh_edge_channel){.ssl = ssl, .number = bh_edge_channel_number()};
        }
        if (channel->ssl == ssl) {
            return channel;
        }
    }
    return NULL;
}

socklen_t
bh_edge_address_mark(
    const struct bh_edge_address *address, uint32_t number, ngx_sockaddr_t *ret_sockaddr)
{
    u_char *place;
    *ret_sockaddr = address->sockaddr;
    switch (ret_sockaddr->sockaddr.sa_family) {
    case AF_INET:
        place = ret_sockaddr->sockaddr_in.sin_zero;
        break;
    case AF_INET6: /* read only where a program asks for it (IPV6_FLOWINFO_SEND) */
        place = (u_char *)&ret_sockaddr->sockaddr_in6.sin6_flowinfo;
        break;
    default:
        place = (u_char *)ret_sockaddr->sockaddr_un.sun_path +
                sizeof(ret_sockaddr->sockaddr_un.sun_path) - sizeof(number);
        break;
    }
    ngx_memcpy(place, &number, sizeof(number));
    return address->socklen;
}
