/*
 * Lookups of one key, and the threads that wait for the disk in the place of their callers.
 *
 * store_get_at_once() finds out on the way that it would have to wait, and then gives up without
 * having pinned anything. store_get_later() hands the same question to a reader thread, which asks
 * it anew, so that what waits in the queue holds no memory or table either. A reader also brings
 * the whole value into memory: the thread that sends it would wait for it page after page.
 */
#include <stdlib.h>

#include "store/lsm/engine.h"

/* What a lookup has found: the hit is only good while the entry is pinned. */
struct found {
    bool exists;
    struct view_hit hit;
    struct store_entry entry;
};

/* Finds and pins. Long values in tables aren't verified yet: that may read much of the disk, and
 * what waits for readers to leave would wait for it. */
static enum err look_up(struct store *store, struct bytes key, enum table_depth depth,
                        struct found *ret_found)
{
    struct view_hit *hit = &ret_found->hit;
    enum err err = ERR_OK;
    enum record_kind kind = RECORD_DELETE;
    rcu_door_lock();
    /* First the view, then the number, as for a snapshot, where the order matters. Here either
     * would do: the newest version that a table has is durable, whatever the number says. */
    const struct view *view = atomic_load_explicit(&store->view, memory_order_acquire);
    uint64_t seq = atomic_load_explicit(&store->visible_seq, memory_order_acquire);
    view_find_in_memtables(view, key, seq, hit);
    if (!hit->record) {
        err = view_find_in_tables(view, key, depth, hit);
    }
    if (err == ERR_OK && hit->record) {
        err = engine_describe(store, hit, &ret_found->entry, &kind);
    }
    ret_found->exists = err == ERR_OK && kind == RECORD_PUT;
    if (ret_found->exists) {
        engine_pin(store, hit, &ret_found->entry);
        ret_found->entry.key = key;
    }
    if (err != ERR_OK && err != ERR_BUSY) {
        engine_table_failed(store, hit->table, err);
    }
    rcu_door_unlock();
    return err;
}

/* Whether a value in a table was found whose bytes are still to be seen to. */
static bool is_in_table(const struct found *found)
{
    return found->exists && !found->hit.node;
}

/* The same, ready to be sent but for a value in a table. */
static enum err find(struct store *store, struct bytes key, enum table_depth depth,
                     struct found *ret_found)
{
    ret_found->exists = false;
    if (atomic_load(&store->closing)) {
        return ERR_CLOSED;
    }
    enum err err = look_up(store, key, depth, ret_found);
    if (ret_found->exists && ret_found->hit.node) {
        err = engine_copy_if_crowded(store, record_size(ret_found->hit.record), &ret_found->entry);
        ret_found->exists = err == ERR_OK;
    }
    return err;
}

static void give_up(struct found *found)
{
    store_entry_release(&found->entry);
    found->exists = false;
}

/* A value in a table is about to be shown: it was verified, or `err` says why it can't be. */
static enum err judge(struct store *store, struct found *found, enum err err)
{
    if (err != ERR_OK) {
        engine_table_failed(store, found->hit.table, err);
        give_up(found);
    }
    return err;
}

static enum err verify(struct store *store, struct found *found)
{
    return judge(
        store, found,
        table_verify_value(found->hit.table, found->hit.record, 0, found->entry.value.size));
}

static void answer(struct store *store, enum err err, const struct found *found, store_get_fn *done,
                   void *arg)
{
    atomic_fetch_add_explicit(&store->counters.gets, 1, memory_order_relaxed);
    done(arg, err, found->exists ? &found->entry : NULL);
}

void store_get(struct store *store, struct bytes key, store_get_fn *done, void *arg)
{
    struct found found;
    enum err err = find(store, key, TABLE_HEAD, &found);
    if (is_in_table(&found)) {
        err = verify(store, &found);
    }
    answer(store, err, &found, done, arg);
}

void store_head(struct store *store, struct bytes key, store_get_fn *done, void *arg)
{
    struct found found;
    enum err err = find(store, key, TABLE_HEAD, &found);
    answer(store, err, &found, done, arg);
}

bool store_get_at_once(struct store *store, struct bytes key, store_get_fn *done, void *arg)
{
    struct found found;
    enum err err = find(store, key, TABLE_AT_ONCE, &found);
    if (err == ERR_BUSY) {
        return false;
    }
    if (is_in_table(&found)) {
        uint64_t size = found.entry.value.size;
        if (size > ENGINE_AT_ONCE_BYTES &&
            !table_value_is_verified(found.hit.table, found.hit.record, 0, size)) {
            give_up(&found);
            return false;
        }
        err = verify(store, &found);
    }
    answer(store, err, &found, done, arg);
    return true;
}

/* --- Readers --- */

struct read {
    struct read *next;
    struct bytes key; /* the caller's */
    store_get_fn *done;
    void *arg;
};

/* False if there is no room, or there are no readers any more. */
static bool enqueue(struct store *store, struct read *read)
{
    struct reads *reads = &store->reads;
    pthread_mutex_lock(&reads->mutex);
    bool open = !reads->closed && reads->n < ENGINE_READS_MAX;
    if (open) {
        *(reads->first ? &reads->last->next : &reads->first) = read;
        reads->last = read;
        reads->n++;
        pthread_cond_signal(&reads->added);
    }
    pthread_mutex_unlock(&reads->mutex);
    return open;
}

void store_get_later(struct store *store, struct bytes key, store_get_fn *done, void *arg)
{
    struct read *read = malloc(sizeof *read);
    if (read) {
        *read = (struct read){.key = key, .done = done, .arg = arg};
    }
    if (!read || !enqueue(store, read)) {
        free(read);
        store_get(store, key, done, arg);
    }
}

/* The one that has waited longest; NULL if there is none, and with `wait` none will come. */
static struct read *dequeue(struct reads *reads, bool wait)
{
    pthread_mutex_lock(&reads->mutex);
    while (wait && !reads->first && !reads->closed) {
        pthread_cond_wait(&reads->added, &reads->mutex);
    }
    struct read *read = reads->first;
    if (read) {
        reads->first = read->next;
    }
    pthread_mutex_unlock(&reads->mutex);
    return read;
}

/* The value too, all of it. */
static enum err find_and_bring(struct store *store, struct bytes key, struct found *ret_found)
{
    enum err err = find(store, key, TABLE_HEAD, ret_found);
    if (is_in_table(ret_found)) {
        err = verify(store, ret_found);
    }
    if (is_in_table(ret_found)) {
        err = judge(store, ret_found, table_populate(ret_found->hit.table, ret_found->entry.value));
    }
    if (ret_found->exists && atomic_load(&store->closing)) {
        give_up(ret_found);
        err = ERR_CLOSED;
    }
    return err;
}

static void complete(struct store *store, struct read *read)
{
    struct found found;
    enum err err = find_and_bring(store, read->key, &found);
    atomic_fetch_add_explicit(&store->counters.cold_reads, 1, memory_order_relaxed);
    pthread_mutex_lock(&store->reads.mutex);
    store->reads.n--;
    pthread_mutex_unlock(&store->reads.mutex);
    answer(store, err, &found, read->done, read->arg);
    free(read);
}

bool engine_read_step(struct store *store)
{
    struct read *read = dequeue(&store->reads, false);
    if (read) {
        complete(store, read);
    }
    return read != NULL;
}

static void *reader_thread(void *arg)
{
    struct store *store = arg;
    struct read *read;
    while ((read = dequeue(&store->reads, true)) != NULL) {
        complete(store, read);
    }
    return NULL;
}

enum err engine_readers_start(struct store *store)
{
    struct reads *reads = &store->reads;
    while (reads->n_threads < ENGINE_READERS) {
        if (pthread_create(&reads->threads[reads->n_threads], NULL, reader_thread, store) != 0) {
            return ERR_NO_MEMORY; /* engine_readers_stop() ends those that run */
        }
        reads->n_threads++;
    }
    return ERR_OK;
}

void engine_readers_stop(struct store *store)
{
    struct reads *reads = &store->reads;
    pthread_mutex_lock(&reads->mutex);
    reads->closed = true;
    pthread_cond_broadcast(&reads->added);
    pthread_mutex_unlock(&reads->mutex);
    while (reads->n_threads > 0) {
        pthread_join(reads->threads[--reads->n_threads], NULL);
    }
    while (engine_read_step(store)) { /* in manual mode; else they have done it */
    }
}
