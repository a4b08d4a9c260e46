/*
 * Bytes of a feed, in pieces: the same lines whatever the pieces, and what is read of a line is
 * within all limits.
 */
#include "tests/fuzz/fuzz.h"

#include "agent/lines.h"
#include "agent/record.h"

struct sums {
    uint64_t lines;
    uint64_t accepted;
    uint64_t bytes;
};

static void
check_names(const struct bh_tenant_facts *facts)
{
    for (int i = 0; i < BH_NAME_KIND_COUNT; i++)
        for (size_t j = 0; j < facts->names[i].len; j++) {
            char c = facts->names[i].data[j];
            MUST(c > ' ' || (c == ' ' && i == BH_NAME_ENDPOINTS));
        }
    for (size_t j = 0; j < facts->domains.len; j++)
        MUST(facts->domains.data[j] >= ' ' && facts->domains.data[j] <= 'z');
    MUST(bh_tenant_id_check(facts->id, NULL) == BH_OK);
    MUST(facts->rate >= 1 && facts->burst >= 1 && facts->share >= 1 && facts->share <= 1000);
}

static enum bh_code
take(void *arg, struct bh_str line, struct bh_error *err)
{
    struct sums *sums = arg;
    struct bh_chunks chunks;
    struct bh_feed_line parsed;
    bh_chunks_init(&chunks);
    MUST(line.len <= BH_LINE_MAX && memchr(line.data, '\n', line.len) == NULL);
    enum bh_code code = bh_feed_line_parse(line, &chunks.arena, &parsed, err);
    MUST(code == BH_OK || err->detail[0] != '\0');
    if (code == BH_OK && parsed.kind == BH_LINE_RECORD) {
        MUST(parsed.no >= 1 && parsed.facts.no == parsed.no);
        check_names(&parsed.facts);
    }
    if (code == BH_OK && parsed.kind == BH_LINE_DOCUMENT)
        MUST(parsed.name.len >= 1 && parsed.name.len <= BH_DOCUMENT_NAME_MAX &&
             parsed.body.len <= BH_DOCUMENT_MAX && parsed.version >= 1);
    bh_chunks_fini(&chunks);
    sums->lines++;
    sums->accepted += code == BH_OK;
    sums->bytes += line.len;
    return BH_OK;
}

static struct sums
run(const uint8_t *data, size_t size, size_t piece)
{
    static struct bh_lines lines;
    struct sums sums = {0};
    struct bh_error err = {0};
    lines.len = 0;
    for (size_t at = 0; at < size; at += piece) {
        size_t part = size - at < piece ? size - at : piece;
        if (bh_lines_feed(&lines, (const char *)data + at, part, take, &sums, &err) != BH_OK)
            break;
    }
    return sums;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct sums whole = run(data, size, size);
    struct sums pieces = run(data, size, 1 + data[0] % 7);
    MUST(whole.lines == pieces.lines && whole.accepted == pieces.accepted &&
         whole.bytes == pieces.bytes);
    return 0;
}
