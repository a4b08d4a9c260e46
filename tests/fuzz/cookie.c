/* Whatever an application sets, no Domain but the host's and no Path outside the prefix is left. */
#include "tests/fuzz/fuzz.h"

#include "core/cookie.h"

static void
confine(struct bh_str cookie, struct bh_str prefix, char **ret_text)
{
    size_t size = cookie.len * (prefix.len + 9) + prefix.len + 64;
    struct bh_buf out;
    *ret_text = malloc(size);
    MUST(*ret_text != NULL);
    bh_buf_init(&out, *ret_text, size);
    bh_cookie_confine(cookie, BH_STR("acme.example.com"), prefix, &out);
    MUST(bh_buf_ok(&out));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const prefixes[] = {"", "/t/acme"};
    if (memchr(data, '\0', size) != NULL)
        return 0; /* nginx refuses it in a header */
    for (size_t i = 0; i < 2; i++) {
        char *once, *saveptr = NULL;
        confine((struct bh_str){(const char *)data, size}, bh_str_of(prefixes[i]), &once);
        char *part = strchr(once, ';');
        bool path = false;
        for (part = part ? strtok_r(part, ";", &saveptr) : NULL; part;
             part = strtok_r(NULL, ";", &saveptr)) {
            part += strspn(part, " \t");
            size_t name = strcspn(part, "=");
            const char *value = part + name;
            while (name > 0 && strchr(" \t", part[name - 1]) != NULL)
                name--;
            value += *value == '=';
            value += strspn(value, " \t");
            value += *value == '.';
            if (name == 6 && strncasecmp(part, "domain", 6) == 0)
                MUST(strncasecmp(value, "acme.example.com", 16) == 0);
            if (name == 4 && strncasecmp(part, "path", 4) == 0)
                path = strncmp(value, "/t/acme/", 8) == 0;
        }
        MUST(i == 0 || path);
        free(once);
    }
    return 0;
}
