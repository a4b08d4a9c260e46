/* A host names a tenant only where `<id>.<base>` does, in whatever case. */
#include "tests/fuzz/fuzz.h"

#include <ctype.h>

#include "core/host.h"

static void
try_host(struct bh_str host, const char *base_text)
{
    struct bh_str base = bh_str_of(base_text);
    char id[BH_TENANT_ID_MAX + 1], again[BH_TENANT_ID_MAX + 1], canonical[128];
    size_t len, again_len;
    enum bh_code code = bh_host_tenant(host, base, id, &len, NULL);
    MUST(code == BH_OK || code == BH_E_TENANT_MISSING || code == BH_E_TENANT_UNKNOWN);
    char domain[BH_DOMAIN_MAX + 1];
    if (bh_host_domain(host, base, domain, &len)) {
        MUST(code == BH_E_TENANT_UNKNOWN && len == strlen(domain));
        MUST(bh_domain_check(bh_str_of(domain), NULL) == BH_OK);
        MUST(!bh_host_under(bh_str_of(domain), base) && bh_host_same(host, bh_str_of(domain)));
    }
    char *upper = malloc(host.len + 1);
    MUST(upper != NULL);
    for (size_t i = 0; i < host.len; i++)
        upper[i] = (char)toupper((unsigned char)host.data[i]);
    MUST(bh_host_tenant((struct bh_str){upper, host.len}, base, again, &again_len, NULL) == code);
    free(upper);
    if (code != BH_OK)
        return;
    MUST(len == strlen(id) && len == again_len && memcmp(id, again, len) == 0);
    MUST(bh_tenant_id_check((struct bh_str){id, len}, NULL) == BH_OK);
    MUST(host.len > len && strncasecmp(host.data, id, len) == 0 && host.data[len] == '.');
    snprintf(canonical, sizeof(canonical), "%s.%s", id, base_text);
    MUST(bh_host_tenant(bh_str_of(canonical), base, again, &again_len, NULL) == BH_OK);
    MUST(strcmp(id, again) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bh_str host = {(const char *)data, size};
    try_host(host, "localhost");
    try_host(host, "example.co.uk");
    return 0;
}
