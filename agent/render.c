#include "agent/render.h"

bool
bh_render_value_valid(const char *value)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._/:@+=~-";
    return value && value[0] && value[strspn(value, allowed)] == '\0';
}

static const struct bh_var *
find(const struct bh_var *vars, size_t count, struct bh_str name)
{
    for (size_t i = 0; i < count; i++)
        if (bh_str_is(name, vars[i].name))
            return &vars[i];
    return NULL;
}

static unsigned
line_of(struct bh_str template, const char *at)
{
    unsigned line = 1;
    for (const char *p = template.data; p < at; p++)
        line += *p == '\n';
    return line;
}

enum bh_code
bh_render(struct bh_str template, const struct bh_var *vars, size_t count, struct bh_buf *out,
    struct bh_error *err)
{
    struct bh_str rest = template, head, tail;
    while (bh_str_cut(rest, '$', &head, &tail)) {
        bh_buf_str_add(out, head);
        rest = tail;
        if (tail.len == 0 || tail.data[0] != '{') {
            bh_buf_putc(out, '$');
            continue;
        }
        struct bh_str name;
        unsigned line = line_of(template, tail.data);
        struct bh_str inner = {tail.data + 1, tail.len - 1};
        if (!bh_str_cut(inner, '}', &name, &rest) || name.len > 64)
            return bh_fail(err, BH_E_CONFIG, "line %u: a placeholder is not closed", line);
        const struct bh_var *var = find(vars, count, name);
        if (!var)
            return bh_fail(err, BH_E_CONFIG, "line %u: unknown placeholder ${%.*s}", line,
                (int)name.len, name.data);
        if (!bh_render_value_valid(var->value))
            return bh_fail(err, BH_E_CONFIG,
                "line %u: the value of ${%s} is empty or holds a character that no configuration "
                "file may hold",
                line, var->name);
        bh_buf_puts(out, var->value);
    }
    bh_buf_str_add(out, rest);
    if (!bh_buf_ok(out))
        return bh_fail(err, BH_E_TOO_LARGE, "the rendered file is too large");
    return BH_OK;
}
