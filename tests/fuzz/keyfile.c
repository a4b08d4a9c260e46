/* Rows of a key file that are read can be written and read again; what is wrong is never quoted. */
#include "tests/fuzz/fuzz.h"

static void
write_rows(struct bh_buf *out, const struct bh_key_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bh_buf_puts(out, rows[i].kid);
        bh_buf_putc(out, ' ');
        bh_buf_hex(out, rows[i].key.bytes, BH_KEY_BYTES);
        bh_buf_putc(out, ' ');
        bh_buf_int(out, rows[i].not_before_s);
        bh_buf_putc(out, ' ');
        bh_buf_int(out, rows[i].not_after_s);
        bh_buf_putc(out, '\n');
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bh_key_row rows[BH_KEY_ROWS_MAX], again[BH_KEY_ROWS_MAX];
    size_t count, again_count;
    char room[1024];
    struct bh_buf out;
    struct bh_error err = {0};
    enum bh_code code =
        bh_key_file_parse((struct bh_str){(const char *)data, size}, rows, &count, &err);
    MUST(code == BH_OK || code == BH_E_CONFIG);
    if (code != BH_OK) {
        MUST(strncmp(err.detail, "key file, line ", 15) == 0 && strlen(err.detail) < 90);
        return 0;
    }
    MUST(count <= BH_KEY_ROWS_MAX);
    bh_buf_init(&out, room, sizeof(room));
    write_rows(&out, rows, count);
    MUST(bh_buf_ok(&out));
    MUST(bh_key_file_parse(bh_buf_str(&out), again, &again_count, &err) == BH_OK);
    MUST(count == again_count);
    for (size_t i = 0; i < count; i++) {
        MUST(bh_kid_valid(bh_str_of(rows[i].kid)) && rows[i].not_before_s < rows[i].not_after_s);
        MUST(strcmp(rows[i].kid, again[i].kid) == 0);
        MUST(memcmp(&rows[i].key, &again[i].key, sizeof(rows[i].key)) == 0);
        MUST(rows[i].not_after_s == again[i].not_after_s);
    }
    return 0;
}
