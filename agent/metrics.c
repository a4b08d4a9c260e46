#include "agent/metrics.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/log.h"
#include "agent/slots.h"
#include "bh_config.h"

#define PLACES 20
#define VALUES (BH_METER_EDGE_COUNT + BH_LATENCY_BUCKETS) /* first the meters, then the buckets */
#define RANK_EVERY_US 60000000 /* a tenant that came lately waits that long for its name */

/*
 * A tenant that is shown by name.  Its series begin at zero when it gets the
 * place, and what it had before stays in `__other__`: no series ever falls but
 * by a start of the agent, when all begin at zero.
 */
struct place {
    uint32_t no; /* 0: free */
    bool fresh;  /* its base is still to be taken */
    char id[BH_TENANT_ID_MAX + 1];
    uint64_t base[VALUES];
    uint64_t ranked; /* requests at the last ranking */
};

static struct {
    pthread_mutex_t lock; /* of all below */
    uint64_t file_epoch;
    int64_t ranked_us; /* monotonic */
    struct place places[PLACES];
    uint64_t away[VALUES]; /* counted before the start, or by name by a tenant that
                                           lost its place */
} shown = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct scan {
    uint64_t all[VALUES];
    uint64_t named[PLACES][VALUES];
    uint32_t busiest[PLACES]; /* numbers without a place, most requests first */
    uint64_t requests[PLACES];
};

static uint64_t
value_of(const struct bh_slot *slot, int i)
{
    const _Atomic uint64_t *value =
        i < BH_METER_EDGE_COUNT ? &slot->meters[i] : &slot->latency[i - BH_METER_EDGE_COUNT];
    return atomic_load_explicit(value, memory_order_relaxed);
}

/* ---- who has a place ---- */

static void
note_busy(struct scan *scan, uint32_t no, uint64_t requests)
{
    for (size_t i = 0; i < PLACES; i++) {
        if (requests <= scan->requests[i])
            continue;
        size_t rest = PLACES - 1 - i;
        memmove(&scan->requests[i + 1], &scan->requests[i], rest * sizeof(scan->requests[0]));
        memmove(&scan->busiest[i + 1], &scan->busiest[i], rest * sizeof(scan->busiest[0]));
        scan->requests[i] = requests;
        scan->busiest[i] = no;
        return;
    }
}

static enum bh_code
add_slot(void *arg, uint32_t index, const struct bh_slot *slot, uint32_t no, struct bh_error *err)
{
    struct scan *scan = arg;
    size_t place = 0;
    (void)index, (void)err;
    while (place < PLACES && shown.places[place].no != no)
        place++;
    for (int i = 0; i < VALUES; i++) {
        uint64_t value = value_of(slot, i);
        scan->all[i] += value;
        if (place < PLACES)
            scan->named[place][i] = value;
    }
    if (place == PLACES)
        note_busy(scan, no, value_of(slot, BH_METER_REQUESTS));
    return BH_OK;
}

/* The place for a newcomer: a free one, or the one whose tenant did least since the last ranking.
 */
static struct place *
weakest(const struct scan *scan, uint64_t *ret_growth)
{
    struct place *found = NULL;
    for (size_t i = 0; i < PLACES; i++) {
        struct place *place = &shown.places[i];
        uint64_t growth = scan->named[i][BH_METER_REQUESTS] - place->ranked;
        if (place->no == 0)
            growth = 0;
        if (found == NULL || place->no == 0 || growth < *ret_growth) {
            found = place;
            *ret_growth = growth;
        }
        if (place->no == 0)
            break;
    }
    return found;
}

static void
settle(struct scan *scan, struct place *place, uint32_t no, const char *id)
{
    size_t at = (size_t)(place - shown.places);
    for (int i = 0; i < VALUES; i++)
        if (place->no != 0)
            shown.away[i] += scan->named[at][i] - place->base[i];
    *place = (struct place){.no = no, .fresh = true};
    memcpy(place->id, id, strlen(id) + 1);
}

/*
 * Newcomers are ranked by all that they ever did: one that did more than a
 * place's tenant since the last ranking gets it.  At most one place changes hands a
 * minute once all are taken.
 */
static void
rank(struct bh_node *node, struct scan *scan)
{
    struct bh_snapshot *snapshot;
    if (pthread_mutex_trylock(&node->writing) != 0)
        return;
    if (bh_writer_reader(node->writer, &snapshot, NULL) == BH_OK) {
        if (bh_snapshot_begin(snapshot, NULL) == BH_OK) {
            bool full = false;
            for (size_t i = 0; i < PLACES && scan->busiest[i] != 0 && !full; i++) {
                uint64_t growth = 0;
                char id[BH_TENANT_ID_MAX + 1];
                struct place *place = weakest(scan, &growth);
                full = place->no != 0;
                if ((!full || scan->requests[i] > growth) &&
                    bh_snapshot_id(snapshot, (int32_t)scan->busiest[i], id))
                    settle(scan, place, scan->busiest[i], id);
            }
            bh_snapshot_end(snapshot);
        }
        bh_snapshot_close(snapshot);
    }
    pthread_mutex_unlock(&node->writing);
    for (size_t i = 0; i < PLACES; i++)
        if (!shown.places[i].fresh)
            shown.places[i].ranked = scan->named[i][BH_METER_REQUESTS];
    shown.ranked_us = bh_mono_us();
}

/* Those who just got a place begin with what they have now. */
static enum bh_code
take_base(void *arg, uint32_t index, const struct bh_slot *slot, uint32_t no, struct bh_error *err)
{
    (void)arg, (void)index, (void)err;
    for (size_t i = 0; i < PLACES; i++) {
        struct place *place = &shown.places[i];
        if (place->no != no || !place->fresh)
            continue;
        for (int j = 0; j < VALUES; j++)
            place->base[j] = value_of(slot, j);
        place->ranked = place->base[BH_METER_REQUESTS];
        place->fresh = false;
    }
    return BH_OK;
}

/* ---- the text ---- */

static void
write_snapshot(struct bh_node *node, struct bh_buf *out)
{
    char incarnation[BH_UID_TEXT];
    pthread_mutex_lock(&node->lock);
    bh_uid_format(&node->meta.incarnation, incarnation);
    uint64_t seq = node->meta.seq;
    double age_s = (double)(bh_mono_us() - node->heard_us) / 1e6;
    bool in_step = node->in_step;
    pthread_mutex_unlock(&node->lock);
    bh_buf_puts(out, "# HELP bulkhead_build_info The agent that answers.\n"
                     "# TYPE bulkhead_build_info gauge\n"
                     "bulkhead_build_info{version=\"" BH_VERSION "\"} 1\n");
    bh_buf_printf(out,
        "# HELP bulkhead_snapshot_info Which registry the snapshot is of, and its format.\n"
        "# TYPE bulkhead_snapshot_info gauge\n"
        "bulkhead_snapshot_info{incarnation=\"%s\",format=\"%d\"} 1\n",
        incarnation, BH_SNAPSHOT_FORMAT);
    bh_buf_printf(out,
        "# HELP bulkhead_snapshot_seq Last change of the feed in the snapshot.\n"
        "# TYPE bulkhead_snapshot_seq gauge\nbulkhead_snapshot_seq %" PRIu64 "\n",
        seq);
    bh_buf_printf(out,
        "# HELP bulkhead_snapshot_age_seconds Since the feed was last heard of.\n"
        "# TYPE bulkhead_snapshot_age_seconds gauge\nbulkhead_snapshot_age_seconds %.3f\n",
        age_s);
    bh_buf_printf(out,
        "# HELP bulkhead_snapshot_in_step Is the feed connected and applied?\n"
        "# TYPE bulkhead_snapshot_in_step gauge\nbulkhead_snapshot_in_step %d\n",
        in_step);
}

/* What series ${place} shows of value ${i}; the place after the last is `__other__`. */
static uint64_t
shown_value(const struct scan *scan, size_t place, int i)
{
    if (place < PLACES)
        return scan->named[place][i] - shown.places[place].base[i];
    uint64_t other = scan->all[i] - shown.away[i];
    for (size_t named = 0; named < PLACES; named++)
        if (shown.places[named].no != 0)
            other -= shown_value(scan, named, i);
    return other;
}

/* Does series ${place} exist, and under which label? */
static const char *
label_of(size_t place)
{
    if (place == PLACES)
        return "__other__";
    return shown.places[place].no != 0 ? shown.places[place].id : NULL;
}

static void
write_room(struct bh_node *node, struct bh_buf *out)
{
    struct bh_snapshot_room room;
    struct bh_error err;
    if (pthread_mutex_trylock(&node->writing) != 0)
        return;
    enum bh_code code = bh_writer_room(node->writer, &room, &err);
    pthread_mutex_unlock(&node->writing);
    if (code != BH_OK)
        return;
    bh_buf_printf(out,
        "# HELP bulkhead_snapshot_readers Places in the table of readers.\n"
        "# TYPE bulkhead_snapshot_readers gauge\n"
        "bulkhead_snapshot_readers{state=\"used\"} %u\n"
        "bulkhead_snapshot_readers{state=\"stale\"} %u\n"
        "bulkhead_snapshot_readers{state=\"max\"} %u\n"
        "# HELP bulkhead_snapshot_bytes Of the file that hold something.\n"
        "# TYPE bulkhead_snapshot_bytes gauge\n"
        "bulkhead_snapshot_bytes %" PRIu64 "\n",
        room.readers, room.stale, room.readers_max, room.bytes);
}

static void
write_meter(const struct scan *scan, enum bh_meter meter, struct bh_buf *out)
{
    bh_buf_printf(out, "# HELP bulkhead_edge_%s_total %s.\n# TYPE bulkhead_edge_%s_total counter\n",
        bh_meter_slug(meter), bh_meter_description(meter), bh_meter_slug(meter));
    for (size_t place = 0; place <= PLACES; place++) {
        const char *label = label_of(place);
        if (label != NULL)
            bh_buf_printf(out, "bulkhead_edge_%s_total{tenant=\"%s\"} %" PRIu64 "\n",
                bh_meter_slug(meter), label, shown_value(scan, place, (int)meter));
    }
}

static void
write_latency(const struct scan *scan, size_t place, const char *label, struct bh_buf *out)
{
    static const char name[] = "bulkhead_edge_latency_seconds";
    uint64_t count = 0;
    for (unsigned i = 0; i < BH_LATENCY_BUCKETS; i++) {
        uint64_t bound_us = bh_latency_bound_us(i);
        char bound[32] = "+Inf";
        if (bound_us != UINT64_MAX)
            snprintf(bound, sizeof(bound), "%.6f", (double)bound_us / 1e6);
        count += shown_value(scan, place, BH_METER_EDGE_COUNT + (int)i);
        bh_buf_printf(
            out, "%s_bucket{tenant=\"%s\",le=\"%s\"} %" PRIu64 "\n", name, label, bound, count);
    }
    double sum_s = (double)shown_value(scan, place, BH_METER_LATENCY_US) / 1e6;
    bh_buf_printf(out, "%s_sum{tenant=\"%s\"} %.6f\n%s_count{tenant=\"%s\"} %" PRIu64 "\n", name,
        label, sum_s, name, label, count);
}

static void
write_latencies(const struct scan *scan, struct bh_buf *out)
{
    bh_buf_puts(out, "# HELP bulkhead_edge_latency_seconds From a request's header to its last "
                     "byte, tunnels apart.\n"
                     "# TYPE bulkhead_edge_latency_seconds histogram\n");
    for (size_t place = 0; place <= PLACES; place++) {
        const char *label = label_of(place);
        if (label != NULL)
            write_latency(scan, place, label, out);
    }
}

static enum bh_code
scan_slots(struct bh_node *node, int file, struct scan *scan, struct bh_error *err)
{
    memset(scan, 0, sizeof(*scan));
    return bh_slots_each(file, bh_node_counters(node), add_slot, scan, err);
}

static enum bh_code
write_edge(struct bh_node *node, int file, struct bh_buf *out, struct bh_error *err)
{
    struct scan scan;
    BH_TRY(scan_slots(node, file, &scan, err));
    uint64_t file_epoch = bh_node_counters(node)->file_epoch;
    if (shown.file_epoch != file_epoch) {
        memset(shown.places, 0, sizeof(shown.places));
        memcpy(shown.away, scan.all, sizeof(shown.away));
        shown.file_epoch = file_epoch;
        shown.ranked_us = 0;
    }
    if (shown.ranked_us == 0 || bh_mono_us() - shown.ranked_us > RANK_EVERY_US) {
        rank(node, &scan);
        BH_TRY(bh_slots_each(file, bh_node_counters(node), take_base, NULL, err));
        BH_TRY(scan_slots(node, file, &scan, err));
    }
    for (int i = 0; i < BH_METER_EDGE_COUNT; i++)
        write_meter(&scan, (enum bh_meter)i, out);
    write_latencies(&scan, out);
    return BH_OK;
}

void
bh_metrics_write(struct bh_node *node, struct bh_buf *out)
{
    write_snapshot(node, out);
    write_room(node, out);
    /* Between two files: neither this one's holes nor its numbers are the other's. */
    if (bh_counters_replaced(bh_node_counters(node), node->config.counters))
        return;
    int file = open(node->config.counters, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    struct bh_error err;
    pthread_mutex_lock(&shown.lock);
    if (write_edge(node, file, out, &err) != BH_OK)
        bh_log_error("metrics", &err);
    pthread_mutex_unlock(&shown.lock);
    close(file);
}
