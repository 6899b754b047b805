/*
 * Lanes: a thread keeps to one of a few lanes, each with an open chunk and a mutex that is nearly
 * always free. A lock-free bump would save some nanoseconds and have to guard against a chunk that
 * is replaced and freed between the look at it and the reference on it.
 */
#include "store/lsm/arena.h"

#include <assert.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>

#define LANES            8u /* a power of two */
#define CACHE_LINE_BYTES 64u

struct chunk {
    _Atomic uint64_t references;
    _Atomic uint64_t mark;
    uint64_t size_bytes; /* of `data` */
    uint64_t data[];
};

struct lane {
    _Alignas(CACHE_LINE_BYTES) pthread_mutex_t mutex;
    struct chunk *open; /* NULL before the first node */
    uint64_t used_bytes;
    uint64_t random; /* of heights; never 0 */
};

struct arena {
    struct lane lanes[LANES];
};

/* Chunks. */

/* Returns a chunk with one reference, or NULL. */
static struct chunk *chunk_new(uint64_t size_bytes)
{
    struct chunk *chunk = malloc(sizeof *chunk + size_bytes);
    if (chunk) {
        atomic_init(&chunk->references, 1);
        atomic_init(&chunk->mark, 0);
        chunk->size_bytes = size_bytes;
    }
    return chunk;
}

void chunk_acquire(struct chunk *chunk)
{
    uint64_t before = atomic_fetch_add_explicit(&chunk->references, 1, memory_order_relaxed);
    assert(before > 0);
}

bool chunk_release(struct chunk *chunk)
{
    /* Release: our use of the memory is over; acquire: so is everybody's when we free it. */
    uint64_t before = atomic_fetch_sub_explicit(&chunk->references, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before > 1) {
        return false;
    }
    free(chunk);
    return true;
}

uint64_t chunk_bytes(const struct chunk *chunk)
{
    return sizeof *chunk + chunk->size_bytes;
}

void chunk_set_mark(struct chunk *chunk, uint64_t mark)
{
    atomic_store_explicit(&chunk->mark, mark, memory_order_release);
}

uint64_t chunk_mark(const struct chunk *chunk)
{
    return atomic_load_explicit(&chunk->mark, memory_order_acquire);
}

/* The arena. */

enum err arena_new(struct arena **ret_arena)
{
    struct arena *arena = aligned_alloc(_Alignof(struct arena), sizeof *arena);
    if (!arena) {
        return ERR_NO_MEMORY;
    }
    for (unsigned i = 0; i < LANES; i++) {
        /* The same for each arena: what one thread does repeats exactly. */
        arena->lanes[i] = (struct lane){.mutex = PTHREAD_MUTEX_INITIALIZER,
                                        .random = (i + 1) * UINT64_C(0x9E3779B97F4A7C15)};
    }
    *ret_arena = arena;
    return ERR_OK;
}

void arena_free(struct arena *arena)
{
    if (!arena) {
        return;
    }
    for (unsigned i = 0; i < LANES; i++) {
        if (arena->lanes[i].open) {
            chunk_release(arena->lanes[i].open);
        }
        pthread_mutex_destroy(&arena->lanes[i].mutex);
    }
    free(arena);
}

/* Threads number themselves on first use. */
static struct lane *lane_of_thread(struct arena *arena)
{
    static atomic_uint threads;
    static _Thread_local unsigned number; /* from 1 */
    if (number == 0) {
        number = 1 + atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed);
    }
    return &arena->lanes[number % LANES];
}

/* Each level has a quarter of the nodes of the one below. Lane locked. */
static uint32_t draw_height(struct lane *lane)
{
    /* xorshift64 (Marsaglia 2003): never reaches 0. */
    lane->random ^= lane->random << 13;
    lane->random ^= lane->random >> 7;
    lane->random ^= lane->random << 17;
    uint64_t limit = UINT64_C(1) << (2 * (NODE_HEIGHT_MAX - 1));
    return 1 + (uint32_t)__builtin_ctzll(lane->random | limit) / 2;
}

/* Room in the lane's open chunk, with a reference; NULL if there is no memory. Lane locked. */
static void *take(struct lane *lane, uint64_t bytes, struct chunk **ret_chunk)
{
    if (!lane->open || lane->open->size_bytes - lane->used_bytes < bytes) {
        struct chunk *fresh = chunk_new(ARENA_CHUNK_BYTES);
        if (!fresh) {
            return NULL;
        }
        if (lane->open) {
            chunk_release(lane->open);
        }
        lane->open = fresh;
        lane->used_bytes = 0;
    }
    void *at = lane->open->data + lane->used_bytes / sizeof lane->open->data[0];
    lane->used_bytes += bytes;
    chunk_acquire(lane->open);
    *ret_chunk = lane->open;
    return at;
}

enum err arena_node(struct arena *arena, uint64_t record_bytes, struct node **ret_node)
{
    struct lane *lane = lane_of_thread(arena);
    struct node *node;
    struct chunk *chunk;

    assert(record_bytes % 8 == 0);
    pthread_mutex_lock(&lane->mutex);
    uint32_t height = draw_height(lane);
    uint64_t links_end = offsetof(struct node, next) + height * sizeof(_Atomic(struct node *));
    if (record_bytes >= ARENA_LARGE_BYTES) {
        pthread_mutex_unlock(&lane->mutex);
        chunk = chunk_new(links_end + record_bytes);
        node = chunk ? (struct node *)chunk->data : NULL;
    } else {
        node = take(lane, links_end + record_bytes, &chunk);
        pthread_mutex_unlock(&lane->mutex);
    }
    if (!node) {
        return ERR_NO_MEMORY;
    }
    node->record = (struct record *)((uint8_t *)node + links_end);
    node->chunk = chunk;
    node->height = height;
    *ret_node = node;
    return ERR_OK;
}
