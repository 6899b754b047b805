/*
 * A search comes down the levels, and on each walks on to the last node that lies before the place
 * it looks for:
 *
 *   level 2  head ------------------> d ----------------------> none
 *   level 1  head -------> b -------> d -------> f -----------> none
 *   level 0  head -> a --> b --> c -> d --> e -> f --> g -----> none
 *
 * Those nodes, one a level, are a position, and a new node is linked behind them. Between the
 * search and the insertion others may have linked nodes there, so the insertion first catches up.
 * It climbs from the node's levels to one that isn't out of date, and comes down from there: the
 * cost is logarithmic in what came in between, also for a batch that found all its positions at
 * once and whose keys follow one another.
 *
 * A point lookup asks the index of keys first (key_index.h), and the list only for an older
 * version.
 *
 * Ordering: the swap that links a node releases all that its thread wrote before, the record, and
 * the links below. Who acquires the link may therefore read all that, and may go on at any level up
 * to the link's own.
 */
#include "store/lsm/memtable.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include "store/lsm/key_index.h"

#define CACHE_LINE_BYTES 64u
#define SMALL_NODE_BYTES 128u /* about what a short key with a tiny value takes */

struct memtable {
    /* A cache line that every insertion changes, */
    _Atomic uint64_t references;
    _Atomic uint64_t bytes;
    _Atomic uint64_t records;
    pthread_mutex_t mutex; /* of chunks, n_chunks, room */

    /* and those that every search reads: at most a new chunk changes them. */
    _Alignas(CACHE_LINE_BYTES) struct chunk **chunks; /* adopted; rarely one twice */
    size_t n_chunks;
    size_t room;
    uint64_t generation;
    uint64_t mark; /* what it leaves on chunks: its number in this process, from 1 */
    struct key_index *index;
    struct node head; /* no record; NODE_HEIGHT_MAX links follow */
};

static _Atomic uint64_t retries;

/* Order. */

/* What a search looks for. A version lies before it if its key is less, or the same and its number
 * greater. */
struct place {
    uint64_t prefix;
    struct bytes key;
    uint64_t seq;
};

static struct place place_of(struct bytes key, uint64_t seq)
{
    return (struct place){.prefix = bytes_prefix(key), .key = key, .seq = seq};
}

static struct place place_of_node(const struct node *node)
{
    return (struct place){
        .prefix = node->prefix, .key = record_key(node->record), .seq = node->record->seq};
}

/* Most comparisons end at the prefix, which lies beside the links. */
static inline bool lies_before(const struct node *node, const struct place *place)
{
    if (node->prefix != place->prefix) {
        return node->prefix < place->prefix;
    }
    int order = bytes_compare(record_key(node->record), place->key);
    return order != 0 ? order < 0 : node->record->seq > place->seq;
}

/* Searching. */

static inline struct node *link_of(const struct node *node, unsigned level)
{
    return atomic_load_explicit(&node->next[level], memory_order_acquire);
}

/* The last node on `level` that lies before the place, from `node` (which does) on. *after comes in
 * as a node that is known not to lie before it, or NULL, and goes out as the one behind. */
static inline struct node *walk(struct node *node, unsigned level, const struct place *place,
                                struct node **after)
{
    struct node *known = *after;
    struct node *next = link_of(node, level);
    while (next && next != known) {
        struct node *next_but_one = link_of(next, level);
        __builtin_prefetch(next_but_one); /* a miss that passes while `next` is compared */
        if (!lies_before(next, place)) {
            break;
        }
        node = next;
        next = next_but_one;
    }
    *after = next;
    return node;
}

/* Casts: a search changes nothing, but who inserts needs what it found. */
static struct node *head_of(const struct memtable *memtable)
{
    return (struct node *)(uintptr_t)&memtable->head;
}

/* Returns the first node at or after the place, or NULL. */
static inline struct node *find(const struct memtable *memtable, const struct place *place,
                                struct memtable_position *ret_position)
{
    struct node *node = head_of(memtable);
    struct node *after = NULL;
    for (unsigned level = NODE_HEIGHT_MAX; level-- > 0;) {
        node = walk(node, level, place, &after);
        ret_position->before[level] = node;
    }
    return after;
}

const struct node *memtable_seek(const struct memtable *memtable, struct bytes key,
                                 uint64_t max_seq)
{
    struct place place = place_of(key, max_seq);
    struct memtable_position unused;
    return find(memtable, &place, &unused);
}

const struct node *memtable_get(const struct memtable *memtable, struct bytes key, uint64_t max_seq)
{
    const struct node *node = key_index_newest(memtable->index, key);
    if (!node || node->record->seq <= max_seq) {
        return node;
    }
    /* An old snapshot, or a version that isn't visible yet. */
    node = memtable_seek(memtable, key, max_seq);
    return node && bytes_equal(record_key(node->record), key) ? node : NULL;
}

const struct node *memtable_first(const struct memtable *memtable)
{
    return link_of(head_of(memtable), 0);
}

const struct node *memtable_next(const struct node *node)
{
    return link_of(node, 0);
}

static struct node *last(const struct memtable *memtable)
{
    struct node *node = head_of(memtable);
    for (unsigned level = NODE_HEIGHT_MAX; level-- > 0;) {
        for (struct node *next; (next = link_of(node, level));) {
            node = next;
        }
    }
    return node;
}

const struct node *memtable_before(const struct memtable *memtable, struct bytes key)
{
    struct node *node;
    if (key.size == 0) {
        node = last(memtable);
    } else {
        struct place place = place_of(key, UINT64_MAX);
        struct memtable_position position;
        find(memtable, &place, &position);
        node = position.before[0];
    }
    return node == head_of(memtable) ? NULL : node;
}

/* Inserting. */

void memtable_find_position(struct memtable *memtable, struct bytes key,
                            struct memtable_position *ret_position)
{
    struct place place = place_of(key, UINT64_MAX);
    find(memtable, &place, ret_position);
}

/* True if a node between `before` and the place was linked on `level` meanwhile. */
static bool is_outdated(const struct node *before, unsigned level, const struct place *place)
{
    const struct node *next = link_of(before, level);
    return next && lies_before(next, place);
}

/* Brings the levels below `height` up to date. */
static void catch_up(struct memtable_position *position, const struct place *place, unsigned height)
{
    unsigned top = height - 1;
    while (top < NODE_HEIGHT_MAX - 1 && is_outdated(position->before[top], top, place)) {
        top++;
    }
    struct node *node = NULL;
    struct node *after = NULL;
    bool moved = false; /* then the search goes on from where it is, as from the top */
    for (unsigned level = top + 1; level-- > 0;) {
        struct node *from = moved ? node : position->before[level];
        node = walk(from, level, place, &after);
        moved = moved || node != from;
        position->before[level] = node;
    }
}

static void link_on(unsigned level, struct node *before, struct node *node,
                    const struct place *place)
{
    for (;;) {
        struct node *after = NULL;
        before = walk(before, level, place, &after);
        atomic_store_explicit(&node->next[level], after, memory_order_relaxed);
        if (atomic_compare_exchange_strong_explicit(&before->next[level], &after, node,
                                                    memory_order_release, memory_order_relaxed)) {
            return;
        }
        /* Somebody linked another node behind `before`: it is in the list for ever, so look again
         * from there. */
        atomic_fetch_add_explicit(&retries, 1, memory_order_relaxed);
    }
}

static uint64_t node_bytes(const struct node *node)
{
    return offsetof(struct node, next) + node->height * sizeof node->next[0] +
           record_size(node->record);
}

void memtable_insert(struct memtable *memtable, struct node *node,
                     const struct memtable_position *position)
{
    struct memtable_position now = *position;

    node->prefix = bytes_prefix(record_key(node->record));
    struct place place = place_of_node(node);
    catch_up(&now, &place, node->height);
    for (unsigned level = 0; level < node->height; level++) {
        link_on(level, now.before[level], node, &place);
    }
    key_index_put(memtable->index, node);
    atomic_fetch_add_explicit(&memtable->bytes, node_bytes(node), memory_order_relaxed);
    atomic_fetch_add_explicit(&memtable->records, 1, memory_order_relaxed);
}

uint64_t memtable_retries(void)
{
    return atomic_load_explicit(&retries, memory_order_relaxed);
}

/* Life. */

enum err memtable_new(uint64_t generation, uint64_t expected_bytes, struct memtable **ret_memtable)
{
    static _Atomic uint64_t marks;
    size_t links = NODE_HEIGHT_MAX * sizeof(_Atomic(struct node *));
    size_t bytes = offsetof(struct memtable, head) + offsetof(struct node, next) + links;
    struct memtable *memtable =
        aligned_alloc(CACHE_LINE_BYTES, (bytes + CACHE_LINE_BYTES - 1) & ~(CACHE_LINE_BYTES - 1));
    if (!memtable) {
        return ERR_NO_MEMORY;
    }
    if (key_index_new(expected_bytes / SMALL_NODE_BYTES, &memtable->index) != ERR_OK) {
        free(memtable);
        return ERR_NO_MEMORY;
    }
    atomic_init(&memtable->references, 1);
    memtable->generation = generation;
    memtable->mark = 1 + atomic_fetch_add_explicit(&marks, 1, memory_order_relaxed);
    memtable->mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    memtable->chunks = NULL;
    memtable->n_chunks = 0;
    memtable->room = 0;
    atomic_init(&memtable->bytes, 0);
    atomic_init(&memtable->records, 0);
    memtable->head.prefix = 0;
    memtable->head.record = NULL;
    memtable->head.chunk = NULL;
    memtable->head.height = NODE_HEIGHT_MAX;
    for (unsigned level = 0; level < NODE_HEIGHT_MAX; level++) {
        atomic_init(&memtable->head.next[level], NULL);
    }
    *ret_memtable = memtable;
    return ERR_OK;
}

void memtable_acquire(struct memtable *memtable)
{
    uint64_t before = atomic_fetch_add_explicit(&memtable->references, 1, memory_order_relaxed);
    assert(before > 0);
}

void memtable_release(struct memtable *memtable)
{
    if (!memtable) {
        return;
    }
    uint64_t before = atomic_fetch_sub_explicit(&memtable->references, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before > 1) {
        return;
    }
    for (size_t i = 0; i < memtable->n_chunks; i++) {
        chunk_release(memtable->chunks[i]);
    }
    free(memtable->chunks);
    key_index_free(memtable->index);
    pthread_mutex_destroy(&memtable->mutex);
    free(memtable);
}

uint64_t memtable_generation(const struct memtable *memtable)
{
    return memtable->generation;
}

uint64_t memtable_bytes(const struct memtable *memtable)
{
    return atomic_load_explicit(&memtable->bytes, memory_order_relaxed);
}

uint64_t memtable_records(const struct memtable *memtable)
{
    return atomic_load_explicit(&memtable->records, memory_order_relaxed);
}

/* Room for one more chunk. Mutex held. */
static enum err make_room(struct memtable *memtable)
{
    if (memtable->n_chunks < memtable->room) {
        return ERR_OK;
    }
    size_t room = memtable->room > 0 ? 2 * memtable->room : 64;
    struct chunk **chunks = reallocarray(memtable->chunks, room, sizeof(struct chunk *));
    if (!chunks) {
        return ERR_NO_MEMORY;
    }
    memtable->chunks = chunks;
    memtable->room = room;
    return ERR_OK;
}

enum err memtable_adopt(struct memtable *memtable, struct node *node)
{
    /* Nearly always the thread's last node lay in the same chunk. Two memtables can take turns at a
     * chunk around a rotation; then one holds it twice, which does no harm. */
    if (chunk_mark(node->chunk) == memtable->mark) {
        return ERR_OK;
    }
    pthread_mutex_lock(&memtable->mutex);
    enum err err = make_room(memtable);
    if (err == ERR_OK) {
        chunk_acquire(node->chunk);
        memtable->chunks[memtable->n_chunks++] = node->chunk;
        chunk_set_mark(node->chunk, memtable->mark);
    }
    pthread_mutex_unlock(&memtable->mutex);
    return err;
}
