#include "data/refusal.h"

#include <stdbool.h>

#define VALUES_MAX 4

struct values {
    struct bh_str items[VALUES_MAX];
    size_t count; /* of all that the format has; 0: nothing may be taken */
};

/* ---- formats that are taken values from ---- */

enum part {
    REST,  /* object: what follows ${head}, with its values */
    FIRST, /* object: the first value */
    PAIR,  /* object: the first value; message: the second, words of our own */
    WHOLE  /* the values are words of our own: the message keeps them */
};

struct shape {
    const char *head; /* how the format begins */
    enum part part;
    const char *object;  /* stands before it */
    const char *message; /* NULL with PAIR and WHOLE */
};

static const struct shape shapes[] = {
    {"permission denied for ", REST, "", "permission denied"},
    {"permission denied: ", REST, "", "permission denied"},
    {"permission denied to set parameter ", REST, "parameter ", "permission denied to set"},
    {"must be owner of ", REST, "", "must be owner"},
    {"must be member of ", REST, "", "must be member"},
    {"must be able to SET ROLE ", REST, "role ", "must be member"},
    {"new row violates row-level security policy ", REST, "policy ",
        "new row violates row-level security policy"},
    {"query would be affected by row-level security policy ", REST, "policy ",
        "query would be affected by row-level security policy"},
    {"cannot set parameter ", REST, "parameter ", "cannot set"},
    {"cannot execute ", REST, "", "cannot execute"},
    {"%s is not allowed while a tenant is bound", FIRST, "", "not allowed while a tenant is bound"},
    {"%s above the tenant's limit is not allowed", FIRST, "", "above the tenant's limit"},
    {"table \"%s\" %s", PAIR, "table ", NULL},
    {"token refused: ", WHOLE, "token", NULL},
    {"tenant cannot be bound here: ", WHOLE, "enter()", NULL},
    {"tenant is not active: ", WHOLE, "tenant", NULL},
};

/* ---- printing ---- */

struct out {
    char *data;
    size_t size;
    size_t len;
};

static void
put_byte(struct out *out, char c)
{
    static const char digits[] = "0123456789abcdef";
    bool plain = c >= ' ' && c <= '~' && c != '\\';
    size_t need = plain ? 1 : 4;

    if (out->len + need >= out->size) {
        out->size = out->len + 1; /* nothing comes after what had no room */
        return;
    }
    if (plain) {
        out->data[out->len++] = c;
        return;
    }
    out->data[out->len++] = '\\';
    out->data[out->len++] = 'x';
    out->data[out->len++] = digits[(unsigned char)c >> 4];
    out->data[out->len++] = digits[(unsigned char)c & 15];
}

static void
put(struct out *out, struct bh_str text)
{
    for (size_t i = 0; i < text.len; i++)
        put_byte(out, text.data[i]);
}

size_t
bh_refusal_print(struct bh_str text, char *out, size_t size)
{
    struct out it = {out, size, 0};

    put(&it, text);
    out[it.len] = '\0';
    return it.len;
}

/* ---- formats ---- */

/* A conversion at ${format}, which points at `%`: its length; ${ret_place}: 1 of `%1$s`, else 0. */
static size_t
conversion(const char *format, size_t *ret_place)
{
    size_t i = 1;

    *ret_place = 0;
    if (format[1] >= '1' && format[1] <= '9' && format[2] == '$') {
        *ret_place = (size_t)(format[1] - '0');
        i = 3;
    }
    i += strspn(format + i, "-+ #0123456789.*lhzjt");
    return format[i] == '\0' ? i : i + 1;
}

/* What stands literally at ${format}, up to the next conversion or the end. */
static size_t
plain_length(const char *format)
{
    return strcspn(format, "%");
}

/* Where ${part} next is in ${text}; at its end if ${last}.  NULL: nowhere. */
static const char *
find(const char *text, struct bh_str part, bool last)
{
    size_t len = strlen(text);

    if (!last) {
        const char *it = text;

        while (it != NULL && strncmp(it, part.data, part.len) != 0)
            it = *it == '\0' ? NULL : it + 1;
        return it;
    }
    if (len < part.len || memcmp(text + len - part.len, part.data, part.len) != 0)
        return NULL;
    return text + len - part.len;
}

/* One value from the start of ${text} on; where it ends, or NULL. */
static const char *
take_value(const char *text, const char *format, size_t place, struct values *values)
{
    size_t plain = plain_length(format);
    const char *end = find(text, (struct bh_str){format, plain}, format[plain] == '\0');
    size_t at = place > 0 ? place - 1 : values->count;

    if (end == NULL || at >= VALUES_MAX)
        return NULL;
    values->items[at] = (struct bh_str){text, (size_t)(end - text)};
    values->count++;
    return end;
}

/* The values with which ${format} became ${text}. False where it does not. */
static bool
match(const char *format, const char *text, struct values *values)
{
    while (*format != '\0') {
        size_t plain = plain_length(format);
        size_t place;

        if (strncmp(format, text, plain) != 0)
            return false;
        format += plain;
        text += plain;
        if (*format == '\0')
            break;
        format += conversion(format, &place);
        text = take_value(text, format, place, values);
        if (text == NULL)
            return false;
    }
    return *text == '\0';
}

/* ${format} with its values, the first of which is number ${at}; "..." where there is none. */
static void
render(struct out *out, const char *format, const struct values *values, size_t at)
{
    while (*format != '\0') {
        size_t plain = plain_length(format);
        size_t place;

        put(out, (struct bh_str){format, plain});
        format += plain;
        if (*format == '\0')
            break;
        format += conversion(format, &place);
        /* A format may use one place again and again, so there may be more of them than values. */
        if (at < values->count && at < VALUES_MAX && values->items[at].data != NULL) {
            struct bh_str value = values->items[at];

            value.len = value.len < BH_REFUSAL_NAME_MAX ? value.len : BH_REFUSAL_NAME_MAX;
            put(out, value);
        } else {
            put(out, BH_STR("..."));
        }
        at++;
    }
}

static void
write_object(
    struct out *out, const struct shape *shape, const char *id, const struct values *values)
{
    put(out, bh_str_of(shape->object));
    if (shape->part == REST)
        render(out, id + strlen(shape->head), values, 0);
    if (shape->part == FIRST || shape->part == PAIR)
        render(out, "%s", values, 0);
}

void
bh_refusal_read(
    const char *id, const char *format, const char *text, struct bh_refusal *ret_refusal)
{
    struct out object = {ret_refusal->object, sizeof(ret_refusal->object), 0};
    struct out message = {ret_refusal->message, sizeof(ret_refusal->message), 0};
    struct values values = {.count = 0};
    const struct values none = {.count = 0};
    const struct shape *shape = NULL;

    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]) && shape == NULL; i++)
        if (strncmp(id, shapes[i].head, strlen(shapes[i].head)) == 0)
            shape = &shapes[i];
    if (shape != NULL && !match(format, text, &values))
        values.count = 0;
    if (shape != NULL)
        write_object(&object, shape, id, &values);
    if (shape != NULL && shape->message != NULL)
        put(&message, bh_str_of(shape->message));
    else if (shape != NULL && shape->part == PAIR)
        render(&message, "%s", &values, 1);
    else
        render(&message, id, shape != NULL ? &values : &none, 0);
    object.data[object.len] = '\0';
    message.data[message.len] = '\0';
}
