/* What the registry remembers of a failure: a problem (RFC 9457) without a request. */
#ifndef BH_CONTROL_REGISTRY_FAILURE_H
#define BH_CONTROL_REGISTRY_FAILURE_H

#include "core/error.h"

/* Room for the JSON of any struct bh_error, even where every byte is escaped. */
#define BH_FAILURE_MAX (6 * (BH_DETAIL_MAX + BH_HINT_MAX) + 512)

/** bh_failure_write(err, ret_json): ${err} as a JSON object: type, title, status, detail, code and,
 * where there is one, hint. */
void bh_failure_write(const struct bh_error *err, char ret_json[BH_FAILURE_MAX]);

#endif
