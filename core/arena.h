/*
 * Memory that dies with the work it serves.
 *
 * Who calls core decides where memory comes from: nginx gives r->pool, the
 * extension a MemoryContext, control and cli chunks of malloc.  A parameter
 * `struct bh_arena *` says "the result lives there".  An arena never jumps and
 * never aborts: it returns NULL, and the caller answers BH_E_NO_MEMORY.
 */
#ifndef BH_CORE_ARENA_H
#define BH_CORE_ARENA_H

#include <stddef.h>

struct bh_arena {
    void *(*alloc)(void *host, size_t size); /* 16-byte aligned, or NULL */
    void *host;
};

/**
 * bh_arena_alloc(arena, size):
 * Return ${size} bytes that live as long as ${arena} does, or NULL.
 */
void *bh_arena_alloc(struct bh_arena *arena, size_t size);

/**
 * bh_arena_zalloc(arena, size):
 * The same, filled with zeros.
 */
void *bh_arena_zalloc(struct bh_arena *arena, size_t size);

/**
 * bh_arena_strdup(arena, text) / bh_arena_strndup(arena, data, len):
 * Return a NUL-terminated copy in ${arena}, or NULL.
 */
char *bh_arena_strdup(struct bh_arena *arena, const char *text);
char *bh_arena_strndup(struct bh_arena *arena, const char *data, size_t len);

/**
 * bh_arena_printf(arena, fmt, ...):
 * Return formatted text in ${arena}, or NULL.
 */
char *bh_arena_printf(struct bh_arena *arena, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* An arena made of malloc'ed chunks, for programs that have no host memory. */
struct bh_chunk;
struct bh_chunks {
    struct bh_arena arena; /* pass &chunks.arena on */
    struct bh_chunk *newest;
};

/**
 * bh_chunks_init(chunks) / bh_chunks_fini(chunks):
 * Start an empty arena; free all that was taken from it.  fini leaves it as
 * init does, so it can be used again.
 */
void bh_chunks_init(struct bh_chunks *chunks);
void bh_chunks_fini(struct bh_chunks *chunks);

#endif
