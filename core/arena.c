#include "core/arena.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 16
#define CHUNK_BYTES 8192

struct bh_chunk {
    struct bh_chunk *older;
    size_t size;
    size_t used;
    _Alignas(ALIGNMENT) unsigned char data[];
};

void *
bh_arena_alloc(struct bh_arena *arena, size_t size)
{
    return arena->alloc(arena->host, size == 0 ? 1 : size);
}

void *
bh_arena_zalloc(struct bh_arena *arena, size_t size)
{
    void *data = bh_arena_alloc(arena, size);
    if (data != NULL)
        memset(data, 0, size);
    return data;
}

char *
bh_arena_strndup(struct bh_arena *arena, const char *data, size_t len)
{
    if (len == SIZE_MAX)
        return NULL;
    char *copy = bh_arena_alloc(arena, len + 1);
    if (copy == NULL)
        return NULL;
    if (len > 0)
        memcpy(copy, data, len);
    copy[len] = '\0';
    return copy;
}

char *
bh_arena_strdup(struct bh_arena *arena, const char *text)
{
    return bh_arena_strndup(arena, text, strlen(text));
}

char *
bh_arena_printf(struct bh_arena *arena, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (len < 0)
        return NULL;
    char *text = bh_arena_alloc(arena, (size_t)len + 1);
    if (text == NULL)
        return NULL;
    va_start(args, fmt);
    vsnprintf(text, (size_t)len + 1, fmt, args);
    va_end(args);
    return text;
}

/* A block that is larger than a quarter of a chunk gets one of its own, below the newest. */
static struct bh_chunk *
add_chunk(struct bh_chunks *chunks, size_t size)
{
    bool own = size > CHUNK_BYTES / 4 && chunks->newest != NULL;
    size_t room = size > CHUNK_BYTES / 4 ? size : CHUNK_BYTES;
    if (room > SIZE_MAX - sizeof(struct bh_chunk))
        return NULL;
    struct bh_chunk *chunk = malloc(sizeof(struct bh_chunk) + room);
    if (chunk == NULL)
        return NULL;
    chunk->size = room;
    chunk->used = 0;
    chunk->older = own ? chunks->newest->older : chunks->newest;
    if (own)
        chunks->newest->older = chunk;
    else
        chunks->newest = chunk;
    return chunk;
}

static void *
chunks_alloc(void *host, size_t size)
{
    struct bh_chunks *chunks = host;
    if (size > SIZE_MAX - ALIGNMENT)
        return NULL;
    size = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    struct bh_chunk *chunk = chunks->newest;
    if (chunk == NULL || chunk->size - chunk->used < size)
        chunk = add_chunk(chunks, size);
    if (chunk == NULL)
        return NULL;
    void *data = chunk->data + chunk->used;
    chunk->used += size;
    return data;
}

void
bh_chunks_init(struct bh_chunks *chunks)
{
    chunks->arena.alloc = chunks_alloc;
    chunks->arena.host = chunks;
    chunks->newest = NULL;
}

void
bh_chunks_fini(struct bh_chunks *chunks)
{
    struct bh_chunk *chunk = chunks->newest;
    while (chunk != NULL) {
        struct bh_chunk *older = chunk->older;
        free(chunk);
        chunk = older;
    }
    chunks->newest = NULL;
}
