#include "tests/unit/core/test.h"

#include "core/arena.h"

static void *
alloc_nothing(void *host, size_t size)
{
    (void)host;
    (void)size;
    return NULL;
}

static void
blocks_of_every_size_are_apart_and_aligned(void **state)
{
    (void)state;
    struct bh_chunks chunks;
    unsigned char *blocks[200];
    bh_chunks_init(&chunks);
    for (size_t i = 0; i < 200; i++) {
        blocks[i] = bh_arena_alloc(&chunks.arena, i * i);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        memset(blocks[i], (int)i, i * i);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t at = 0; at < i * i; at++)
            assert_int_equal(blocks[i][at], i);
    }
    bh_chunks_fini(&chunks);
}

static void
zalloc_gives_zeros_also_where_memory_was_used_before(void **state)
{
    (void)state;
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    for (int round = 0; round < 2; round++) {
        unsigned char *dirty = bh_arena_alloc(&chunks.arena, 4000);
        assert_non_null(dirty);
        memset(dirty, 0xff, 4000);
        bh_chunks_fini(&chunks);
        const unsigned char *zeros = bh_arena_zalloc(&chunks.arena, 4000);
        assert_non_null(zeros);
        for (size_t i = 0; i < 4000; i++)
            assert_int_equal(zeros[i], 0);
    }
    bh_chunks_fini(&chunks);
}

static void
texts_are_copied_and_terminated(void **state)
{
    (void)state;
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    char source[] = "abcdef";
    char *all = bh_arena_strdup(&chunks.arena, source);
    char *part = bh_arena_strndup(&chunks.arena, source, 3);
    char *none = bh_arena_strndup(&chunks.arena, NULL, 0);
    char *made = bh_arena_printf(&chunks.arena, "%s-%d", source, 42);
    source[0] = 'X';
    assert_string_equal(all, "abcdef");
    assert_string_equal(part, "abc");
    assert_string_equal(none, "");
    assert_string_equal(made, "abcdef-42");
    bh_chunks_fini(&chunks);
}

static void
a_host_without_memory_gives_null(void **state)
{
    (void)state;
    struct bh_arena arena = {alloc_nothing, NULL};
    assert_null(bh_arena_alloc(&arena, 1));
    assert_null(bh_arena_zalloc(&arena, 1));
    assert_null(bh_arena_strdup(&arena, "x"));
    assert_null(bh_arena_strndup(&arena, "x", 1));
    assert_null(bh_arena_printf(&arena, "%d", 1));
}

static void
sizes_beyond_the_address_space_give_null(void **state)
{
    (void)state;
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    assert_non_null(bh_arena_alloc(&chunks.arena, 1));
    assert_null(bh_arena_alloc(&chunks.arena, SIZE_MAX));
    assert_null(bh_arena_alloc(&chunks.arena, SIZE_MAX - 20));
    assert_null(bh_arena_strndup(&chunks.arena, "x", SIZE_MAX));
    assert_non_null(bh_arena_alloc(&chunks.arena, 1));
    bh_chunks_fini(&chunks);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_of_every_size_are_apart_and_aligned),
        cmocka_unit_test(zalloc_gives_zeros_also_where_memory_was_used_before),
        cmocka_unit_test(texts_are_copied_and_terminated),
        cmocka_unit_test(a_host_without_memory_gives_null),
        cmocka_unit_test(sizes_beyond_the_address_space_give_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
