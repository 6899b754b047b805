#include "store/lsm/key_index.h"

#include <stdbool.h>
#include <stdlib.h>
#include <xxhash.h>

#define BUCKETS_MIN UINT64_C(256)
#define BUCKETS_MAX (UINT64_C(1) << 24)

struct key_index {
    uint64_t mask; /* number of buckets - 1, which is a power of two - 1 */
    _Atomic(struct node *) buckets[];
};

enum err key_index_new(uint64_t keys, struct key_index **ret_index)
{
    uint64_t n = BUCKETS_MIN;
    while (n < keys && n < BUCKETS_MAX) {
        n *= 2;
    }
    /* Zeros from the system cost nothing until a bucket is used; a NULL pointer is zeros. */
    struct key_index *index = calloc(1, sizeof *index + n * sizeof index->buckets[0]);
    if (!index) {
        return ERR_NO_MEMORY;
    }
    index->mask = n - 1;
    *ret_index = index;
    return ERR_OK;
}

void key_index_free(struct key_index *index)
{
    free(index);
}

/* The chain from `node` on up to `end` (NULL: all of it) searched for the key's first node. */
static inline struct node *find_first(struct node *node, const struct node *end, struct bytes key,
                                      uint32_t hash)
{
    while (node != end) {
        if (node->hash == hash && bytes_equal(record_key(node->record), key)) {
            return node;
        }
        node = node->other_key;
    }
    return NULL;
}

static void move_on(struct node *first, struct node *node)
{
    struct node *newest = atomic_load_explicit(&first->newest, memory_order_acquire);
    while (newest->record->seq < node->record->seq &&
           !atomic_compare_exchange_weak_explicit(&first->newest, &newest, node,
                                                  memory_order_release, memory_order_acquire)) {
    }
}

void key_index_put(struct key_index *index, struct node *node)
{
    struct bytes key = record_key(node->record);
    uint64_t hash = XXH3_64bits(key.data, key.size);
    _Atomic(struct node *) *bucket = &index->buckets[hash & index->mask];
    struct node *head = atomic_load_explicit(bucket, memory_order_acquire);
    struct node *searched = NULL; /* from here on the chain was searched already */

    node->hash = (uint32_t)(hash >> 32);
    atomic_store_explicit(&node->newest, node, memory_order_relaxed);
    do {
        struct node *first = find_first(head, searched, key, node->hash);
        if (first) {
            move_on(first, node);
            return;
        }
        searched = head;
        node->other_key = head;
    } while (!atomic_compare_exchange_weak_explicit(bucket, &head, node, memory_order_release,
                                                    memory_order_acquire));
}

const struct node *key_index_newest(const struct key_index *index, struct bytes key)
{
    uint64_t hash = XXH3_64bits(key.data, key.size);
    const _Atomic(struct node *) *bucket = &index->buckets[hash & index->mask];
    struct node *head = atomic_load_explicit(bucket, memory_order_acquire);
    const struct node *first = find_first(head, NULL, key, (uint32_t)(hash >> 32));
    return first ? atomic_load_explicit(&first->newest, memory_order_acquire) : NULL;
}
