/* A list of strings, as an array of a JSON document has them. */
#ifndef BH_CORE_WORDS_H
#define BH_CORE_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/arena.h"
#include "core/json.h"
#include "core/str.h"

struct bh_words {
    const struct bh_str *items;
    size_t count;
};

/**
 * bh_words_of(array, arena):
 * The strings of ${array} (NULL: none), which was checked to hold nothing else; borrowed.  None
 * where there is no memory for them.
 */
struct bh_words bh_words_of(const struct bh_json *array, struct bh_arena *arena);

/** bh_words_have(words, word): is it one of them? */
bool bh_words_have(const struct bh_words *words, struct bh_str word);

#endif
