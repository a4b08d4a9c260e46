/* JSON bodies, checked member by member. */
#ifndef SHOP_INPUT_H
#define SHOP_INPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "http.h"

#define SHOP_NAME_MAX 200

/* One member that a body must have: a whole number of min..max, or a text of min..max characters.
 */
struct shop_member {
    const char *name;
    bool is_text;
    int64_t min, max;
    char value[SHOP_NAME_MAX * 4 + 1]; /* written by shop_input: decimal digits, or UTF-8 */
};

/**
 * shop_input(request, members, count, reply):
 * Read the body as one object with exactly ${members} and fill their values.
 * Return false, with the problem in ${reply}: 400 where it is no JSON object,
 * 422 for members that are missing, unknown or out of range.
 */
bool shop_input(const struct shop_request *request, struct shop_member *members, size_t count,
    struct shop_reply *reply);

#endif
