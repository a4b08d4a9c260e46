#include "agent/doctor.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "agent/log.h"
#include "agent/slots.h"
#include "bh_config.h"

static void
write_snapshot(struct bh_node *node, struct bh_buf *out)
{
    struct bh_snapshot_room room;
    struct bh_error err;
    pthread_mutex_lock(&node->lock);
    int64_t age_ms = (bh_mono_us() - node->heard_us) / 1000;
    uint64_t seq = node->meta.seq;
    bool in_step = node->in_step;
    pthread_mutex_unlock(&node->lock);
    bh_buf_puts(out, "\"snapshot\":{\"path\":");
    bh_buf_json(out, bh_str_of(node->config.snapshot));
    bh_buf_printf(out, ",\"format\":%d,\"seq\":%" PRIu64 ",\"age_ms\":%" PRId64 ",\"in_step\":%s",
        BH_SNAPSHOT_FORMAT, seq, age_ms, in_step ? "true" : "false");
    enum bh_code code = BH_E_NOT_READY;
    if (pthread_mutex_trylock(&node->writing) == 0) {
        code = bh_writer_room(node->writer, &room, &err);
        pthread_mutex_unlock(&node->writing);
    }
    if (code != BH_OK) {
        bh_buf_puts(out, ",\"readers\":null,\"bytes\":null}");
        return;
    }
    bh_buf_printf(out,
        ",\"readers\":{\"used\":%u,\"stale\":%u,\"max\":%u},\"bytes\":%" PRIu64
        ",\"map_bytes\":%" PRIu64 "}",
        room.readers, room.stale, room.readers_max, room.bytes, room.map_bytes);
}

static enum bh_code
count_slot(void *arg, uint32_t index, const struct bh_slot *slot, uint32_t no, struct bh_error *err)
{
    (void)index, (void)slot, (void)no, (void)err;
    ++*(uint64_t *)arg;
    return BH_OK;
}

static void
write_counters(struct bh_node *node, struct bh_buf *out)
{
    const struct bh_counters *counters = bh_node_counters(node);
    bool lost = bh_counters_replaced(counters, node->config.counters);
    struct statfs fs;
    uint64_t used = 0;
    struct bh_error err;
    int file = lost ? -1 : open(node->config.counters, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bh_buf_puts(out, "\"counters\":{\"path\":");
    bh_buf_json(out, bh_str_of(node->config.counters));
    bh_buf_printf(out, ",\"version\":%u,\"slots\":%u,\"replaced\":%s", counters->version,
        counters->capacity, lost ? "true" : "false");
    if (file >= 0 && fstatfs(file, &fs) == 0 &&
        bh_slots_each(file, counters, count_slot, &used, &err) == BH_OK)
        bh_buf_printf(out, ",\"slots_used\":%" PRIu64 ",\"tmpfs\":%s,\"free_bytes\":%" PRIu64 "}",
            used, fs.f_type == TMPFS_MAGIC ? "true" : "false",
            (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize);
    else
        bh_buf_puts(out, ",\"slots_used\":null,\"tmpfs\":null,\"free_bytes\":null}");
    if (file >= 0)
        close(file);
}

void
bh_doctor_json(struct bh_node *node, struct bh_buf *out)
{
    bh_buf_puts(out, "{\"version\":\"" BH_VERSION "\",\"commit\":\"" BH_COMMIT "\",");
    write_snapshot(node, out);
    bh_buf_puts(out, ",");
    write_counters(node, out);
    bh_buf_puts(out, "}\n");
}
