/*
 * Whatever format and text: object and message are short printable ASCII.  An input is four
 * lines: format in English, translated format, text, and a text to print by itself.
 */
#include "tests/fuzz/fuzz.h"

#include "data/refusal.h"

static void
check_printable(const char *text, size_t size)
{
    size_t len = strnlen(text, size);

    MUST(len < size);
    for (size_t i = 0; i < len; i++)
        MUST(text[i] >= ' ' && text[i] <= '~');
}

/* NUL-terminated and exactly as long as it is. */
static char *
line(struct bh_str *rest)
{
    struct bh_str head, tail;

    if (!bh_str_cut(*rest, '\n', &head, &tail)) {
        head = *rest;
        tail = (struct bh_str){rest->data + rest->len, 0};
    }
    *rest = tail;
    return strndup(head.data, head.len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bh_str rest = {(const char *)data, size};
    char *id = line(&rest), *format = line(&rest), *text = line(&rest);
    struct bh_refusal refusal;
    char out[64];

    MUST(id != NULL && format != NULL && text != NULL);
    bh_refusal_read(id, format, text, &refusal);
    check_printable(refusal.object, sizeof(refusal.object));
    check_printable(refusal.message, sizeof(refusal.message));
    for (size_t room = 1; room <= sizeof(out); room += 9) {
        MUST(bh_refusal_print(rest, out, room) == strlen(out));
        check_printable(out, room);
    }
    free(id);
    free(format);
    free(text);
    return 0;
}
