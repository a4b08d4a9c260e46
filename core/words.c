#include "core/words.h"

struct bh_words
bh_words_of(const struct bh_json *array, struct bh_arena *arena)
{
    struct bh_words words = {NULL, 0};
    size_t n = 0;
    for (const struct bh_json *item = array == NULL ? NULL : array->first; item != NULL;
         item = item->next)
        n++;
    struct bh_str *items = n == 0 ? NULL : bh_arena_alloc(arena, n * sizeof(*items));
    for (const struct bh_json *item = items == NULL ? NULL : array->first; item != NULL;
         item = item->next)
        items[words.count++] = item->text;
    words.items = items;
    return words;
}

bool
bh_words_have(const struct bh_words *words, struct bh_str word)
{
    for (size_t i = 0; i < words->count; i++)
        if (bh_str_eq(words->items[i], word))
            return true;
    return false;
}
