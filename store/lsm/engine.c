/* What the engine's parts share: time, events, heartbeats, views and pins. */
#include "store/lsm/engine.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "store/base/sigbus.h"
#include "store/lsm/commit.h"

/* --- Time, numbers, events
 * ------------------------------------------------------------------------ */

static uint64_t clock_us(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t engine_now_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

uint64_t engine_now_ms(void)
{
    return engine_now_us() / 1000;
}

uint64_t engine_wall_ms(void)
{
    return clock_us(CLOCK_REALTIME) / 1000;
}

uint64_t engine_new_number(struct store *store)
{
    return atomic_fetch_add(&store->next_file, 1);
}

uint64_t engine_random_id(void)
{
    uint64_t id = 0;
    while (id == 0) {
        ssize_t got = getrandom(&id, sizeof id, 0);
        assert(got == (ssize_t)sizeof id || (got < 0 && errno == EINTR));
        if (got != (ssize_t)sizeof id) {
            id = 0;
        }
    }
    return id;
}

PRINTF_LIKE(4, 0)
static void tell(struct store *store, enum store_event_kind kind, const char *keys,
                 const char *format, va_list args)
{
    if (!store->options.on_event) {
        return;
    }
    char text[1024];
    vsnprintf(text, sizeof text, format, args);
    struct store_event event = {.kind = kind, .text = text, .keys = keys};
    store->options.on_event(store->options.arg, &event);
}

void engine_event(struct store *store, enum store_event_kind kind, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    tell(store, kind, "", format, args);
    va_end(args);
}

void engine_table_event(struct store *store, const char *keys, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    tell(store, STORE_EVENT_TABLE_DAMAGED, keys, format, args);
    va_end(args);
}

void engine_fail(struct store *store, enum store_event_kind kind, const char *format, ...)
{
    atomic_store(&store->state, STORE_READ_ONLY);
    va_list args;
    va_start(args, format);
    tell(store, kind, "", format, args);
    va_end(args);
    atomic_thread_fence(memory_order_seq_cst);
    admission_pump(store);                        /* those that wait are turned away */
    atomic_store(&store->requests_changed, true); /* and who waits for a flush */
    sleeper_wake(&store->flush_sleeper);
}

void engine_check_numbers(struct store *store, uint64_t next_seq)
{
    _Static_assert(ENGINE_INFLIGHT_MAX_BYTES / ENGINE_OP_BYTES < CLAIM_SEQ_MASK - ENGINE_SEQ_LIMIT,
                   "what is in flight at the limit must have numbers");
    if (next_seq >= ENGINE_SEQ_LIMIT && atomic_load(&store->state) == STORE_WRITABLE) {
        engine_fail(store, STORE_EVENT_NUMBERS_USED_UP,
                    "the numbers of versions in %s are used up; writes are refused for good: copy "
                    "the data into a new store",
                    store->dir_path);
    }
}

void engine_table_failed(struct store *store, struct table *table, enum err err)
{
    if (!table || !table_set_damaged(table)) {
        return;
    }
    char text[512];
    table_error_text(table, text, sizeof text);
    engine_event(store, STORE_EVENT_TABLE_DAMAGED,
                 "%s (%s); keys on it get an error, see varve check", text, err_text(err));
}

/* --- Heartbeats
 * ----------------------------------------------------------------------------------- */

void engine_busy_begin(struct pulse *pulse)
{
    atomic_store_explicit(&pulse->busy_since_ms, engine_now_ms(), memory_order_relaxed);
}

void engine_busy_end(struct pulse *pulse)
{
    atomic_store_explicit(&pulse->busy_since_ms, 0, memory_order_relaxed);
}

void engine_io_begin(struct pulse *pulse)
{
    engine_busy_end(pulse);
}

void engine_io_end(struct pulse *pulse)
{
    engine_busy_begin(pulse);
}

uint64_t store_stuck_ms(const struct store *store)
{
    uint64_t now_ms = engine_now_ms(), most = 0;
    for (size_t i = 0; i < ENGINE_THREADS; i++) {
        uint64_t since =
            atomic_load_explicit(&store->pulses[i].busy_since_ms, memory_order_relaxed);
        if (since != 0 && now_ms > since && now_ms - since > most) {
            most = now_ms - since;
        }
    }
    return most;
}

/* --- Views and pins
 * ------------------------------------------------------------------------------- */

struct view *engine_view_acquire(struct store *store)
{
    rcu_door_lock();
    struct view *view = atomic_load_explicit(&store->view, memory_order_acquire);
    view_acquire(view);
    rcu_door_unlock();
    return view;
}

struct view *engine_snapshot(struct store *store, uint64_t *ret_seq)
{
    rcu_door_lock();
    struct view *view = atomic_load_explicit(&store->view, memory_order_acquire);
    for (;;) {
        /* The number after the view; and the view still the same after the number, so that the view
         * has every version up to it. */
        uint64_t seq = atomic_load(&store->visible_seq);
        struct view *again = atomic_load(&store->view);
        if (again == view) {
            *ret_seq = seq;
            break;
        }
        view = again;
    }
    view_acquire(view);
    rcu_door_unlock();
    return view;
}

/* A pin is a reference on what owns the bytes: a memtable's chunk, or a table (marked by bit 0); or
 * the bytes themselves, copied (bit 1). */
#define PIN_TABLE ((uintptr_t)1)
#define PIN_COPY  ((uintptr_t)2)

struct pinned_copy {
    uint64_t size_bytes; /* of all */
    uint8_t value[];
};

static void copy_text(struct store_text *into, struct bytes from)
{
    into->size = (uint16_t)(from.size < sizeof into->data ? from.size : sizeof into->data);
    if (into->size > 0) {
        memcpy(into->data, from.data, into->size);
    }
}

static void describe(struct store *store, const struct record *record, struct store_entry *entry)
{
    struct record_meta meta;
    record_meta_get(record, &meta);
    entry->key = bytes_of(NULL, 0);
    entry->value = record_value(record);
    copy_text(&entry->content_type, meta.content_type);
    copy_text(&entry->content_encoding, meta.content_encoding);
    copy_text(&entry->cache_control, meta.cache_control);
    entry->modified_ms = meta.modified_ms;
    entry->version = (struct store_version){store->epoch, record->seq};
    entry->pin = NULL;
    entry->owner = store;
}

/* All but the value is copied here, under the guard, so that nobody above has to think of pages
 * that can't be read. */
enum err engine_describe(struct store *store, const struct view_hit *hit,
                         struct store_entry *ret_entry, enum record_kind *ret_kind)
{
    if (hit->node) {
        describe(store, hit->record, ret_entry);
        *ret_kind = hit->record->kind;
        return ERR_OK;
    }
    struct bytes map = table_map(hit->table);
    struct sigbus_guard guard;
    if (!sigbus_guard_enter(&guard, map.data, map.size)) {
        return ERR_IO;
    }
    describe(store, hit->record, ret_entry);
    *ret_kind = hit->record->kind;
    sigbus_guard_leave(&guard);
    return ERR_OK;
}

void engine_pin(struct store *store, const struct view_hit *hit, struct store_entry *entry)
{
    if (hit->node) {
        chunk_acquire(hit->node->chunk);
        entry->pin = hit->node->chunk;
        atomic_fetch_add_explicit(&store->counters.pinned_bytes, chunk_bytes(hit->node->chunk),
                                  memory_order_relaxed);
    } else {
        table_acquire(hit->table);
        entry->pin = (void *)((uintptr_t)hit->table | PIN_TABLE);
    }
    atomic_fetch_add_explicit(&store->counters.pinned_entries, 1, memory_order_relaxed);
}

static void unpin_chunk(struct store *store, struct chunk *chunk)
{
    atomic_fetch_sub_explicit(&store->counters.pinned_bytes, chunk_bytes(chunk),
                              memory_order_relaxed);
    chunk_release(chunk);
}

/* 256 KiB would be held for some bytes, as long as a slow client likes. A large value has a chunk
 * of its own, and a copy would be as large. */
enum err engine_copy_if_crowded(struct store *store, uint64_t record_bytes,
                                struct store_entry *entry)
{
    if (record_bytes >= ARENA_LARGE_BYTES ||
        atomic_load_explicit(&store->counters.pinned_bytes, memory_order_relaxed) <=
            ENGINE_PINNED_MAX_BYTES) {
        return ERR_OK;
    }
    struct chunk *chunk = entry->pin;
    uint64_t size = sizeof(struct pinned_copy) + entry->value.size;
    struct pinned_copy *copy = malloc(size);
    if (copy) {
        copy->size_bytes = size;
        memcpy(copy->value, entry->value.data, entry->value.size);
        entry->value.data = copy->value;
        entry->pin = (void *)((uintptr_t)copy | PIN_COPY);
        atomic_fetch_add_explicit(&store->counters.pinned_bytes, size, memory_order_relaxed);
    } else {
        atomic_fetch_sub_explicit(&store->counters.pinned_entries, 1, memory_order_relaxed);
    }
    unpin_chunk(store, chunk);
    return copy ? ERR_OK : ERR_NO_MEMORY;
}

void store_entry_release(struct store_entry *entry)
{
    struct store *store = entry->owner;
    uintptr_t pin = (uintptr_t)entry->pin;
    atomic_fetch_sub_explicit(&store->counters.pinned_entries, 1, memory_order_relaxed);
    if (pin & PIN_TABLE) {
        struct table *table = (struct table *)(pin & ~PIN_TABLE);
        if (table_release(table)) {
            engine_reap_table(store, table);
        }
    } else if (pin & PIN_COPY) {
        struct pinned_copy *copy = (struct pinned_copy *)(pin & ~PIN_COPY);
        atomic_fetch_sub_explicit(&store->counters.pinned_bytes, copy->size_bytes,
                                  memory_order_relaxed);
        free(copy);
    } else {
        unpin_chunk(store, (struct chunk *)pin);
    }
    *entry = (struct store_entry){0};
}

/* --- State
 * ---------------------------------------------------------------------------------------- */

enum store_state store_state(const struct store *store)
{
    enum store_state state = (enum store_state)atomic_load(&store->state);
    if (state == STORE_WRITABLE && (atomic_load(&store->gates) & ENGINE_GATE_SPACE)) {
        return STORE_NO_SPACE;
    }
    return state;
}
