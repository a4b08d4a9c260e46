#include "core/sni.h"

#define HEAD 5 /* length of the list, type, length of the name */
#define HOST_NAME 0

bool
bh_sni_name(struct bh_str name, struct bh_sni *ret_sni)
{
    size_t len = name.len;
    ret_sni->len = 0;
    ret_sni->text[0] = '\0';
    if (len > 0 && name.data[len - 1] == '.')
        len--;
    if (len == 0 || len > BH_DOMAIN_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = name.data[i];
        c = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '.') {
            ret_sni->text[0] = '\0';
            return false;
        }
        ret_sni->text[i] = c;
    }
    ret_sni->text[len] = '\0';
    ret_sni->len = len;
    return true;
}

static size_t
length_at(const uint8_t *p)
{
    return (size_t)p[0] << 8 | p[1];
}

bool
bh_sni_extension(const uint8_t *data, size_t len, struct bh_sni *ret_sni)
{
    ret_sni->len = 0;
    ret_sni->text[0] = '\0';
    if (len <= HEAD || length_at(data) != len - 2 || data[2] != HOST_NAME ||
        length_at(data + 3) != len - HEAD)
        return false;
    return bh_sni_name((struct bh_str){(const char *)data + HEAD, len - HEAD}, ret_sni);
}
