/* libFuzzer: an nginx configuration, read and looked at by every check of `bulkhead doctor`. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "cli/doctor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct bh_str text = {(const char *)data, size};
    struct bh_chunks chunks;
    struct bh_conf *root;
    struct bh_error err;

    if (size > 4096)
        return 0;
    bh_chunks_init(&chunks);
    if (bh_conf_parse(text, "f", &chunks.arena, &root, &err) == BH_OK) {
        struct bh_cli cli = {.program = "bulkhead", .arena = &chunks.arena};
        struct bh_doctor doctor = {.cli = &cli, .items = json_array()};
        bh_doctor_edge(&doctor, root);
        if (json_array_size(doctor.items) < 11) /* each check says something */
            abort();
        json_decref(doctor.items);
    }
    bh_chunks_fini(&chunks);
    return 0;
}
