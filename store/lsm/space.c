#include "store/lsm/space.h"

#include <stdlib.h>

/* A table has index, filter and padding beside its records: less than this part of them. */
#define TABLE_OVERHEAD_PART  8u
#define TABLE_OVERHEAD_BYTES (UINT64_C(64) << 10)

/* A segment, and the table of a full memtable or, with much in flight, of a full segment. */
static uint64_t whole_bytes(const struct store *store)
{
    return store->segment_bytes + store->segment_bytes / TABLE_OVERHEAD_PART +
           store->options.memtable_bytes;
}

/* What the tables of everything in memory take at most. */
static uint64_t needed_bytes(struct store *store)
{
    rcu_door_lock();
    const struct view *view = atomic_load(&store->view);
    uint64_t bytes = memtable_bytes(view->active);
    for (size_t i = 0; i < view->n_sealed; i++) {
        bytes += memtable_bytes(view->sealed[i]);
    }
    rcu_door_unlock();
    return bytes + bytes / TABLE_OVERHEAD_PART + TABLE_OVERHEAD_BYTES;
}

static void kick_log(struct store *store)
{
    atomic_store(&store->log_kick, true);
    sleeper_wake(&store->log_sleeper);
}

/* --- The file --- */

bool space_give_ballast(struct store *store)
{
    store->ballast_bytes = 0;
    return vfs_unlink(store->dir, FILES_BALLAST) == ERR_OK;
}

static enum err make_ballast(struct store *store, uint64_t bytes)
{
    struct vfs_file *file;
    enum err err = vfs_open(store->dir, FILES_BALLAST, VFS_CREATE, &file);
    if (err != ERR_OK) {
        return err;
    }
    err = vfs_reserve(file, bytes);
    vfs_close(file);
    if (err != ERR_OK) {
        (void)space_give_ballast(store);
        return err;
    }
    store->ballast_bytes = bytes;
    return ERR_OK;
}

/* Where there is no room for a larger one, it stays as large as it was. */
static enum err set_ballast(struct store *store, uint64_t bytes)
{
    uint64_t before = store->ballast_bytes;
    if (before == bytes) {
        return ERR_OK;
    }
    (void)space_give_ballast(store);
    enum err err = make_ballast(store, bytes);
    if (err != ERR_OK && before > 0 && before < bytes) {
        (void)!make_ballast(store, before);
    }
    return err;
}

/* One that an earlier process left may be whole. */
static void find_ballast(struct store *store)
{
    struct vfs_file *file;
    uint64_t size_bytes;
    if (vfs_open(store->dir, FILES_BALLAST, VFS_READ, &file) == ERR_OK) {
        if (vfs_size(file, &size_bytes) == ERR_OK) {
            store->ballast_bytes = size_bytes;
        }
        vfs_close(file);
    }
}

void space_hold_for_manifest(struct store *store, uint64_t bytes)
{
    find_ballast(store);
    if (store->ballast_bytes < bytes) {
        (void)!set_ballast(store, bytes);
    }
}

void space_open(struct store *store)
{
    find_ballast(store);
    if (set_ballast(store, whole_bytes(store)) == ERR_NO_SPACE) {
        space_is_short(store, "the ballast");
    }
}

enum err space_free_all_but_needed(struct store *store)
{
    return set_ballast(store, needed_bytes(store));
}

/* --- Short of space, and no longer --- */

void space_is_short(struct store *store, const char *what)
{
    if (!atomic_exchange(&store->no_space, true)) {
        engine_event(store, STORE_EVENT_NO_SPACE, "no space in %s for %s; puts are refused",
                     store->dir_path, what);
    }
    kick_log(store); /* which turns waiting puts away */
}

/* Level 0 has grown so long that writes wait for a compaction that has no room. */
static bool is_compaction_in_the_way(struct store *store)
{
    rcu_door_lock();
    size_t level0_tables = atomic_load(&store->view)->levels[0].n_tables;
    rcu_door_unlock();
    return level0_tables >= ENGINE_LEVEL0_STOP && atomic_load(&store->compaction_starved);
}

bool space_restore(struct store *store)
{
    if (is_compaction_in_the_way(store)) {
        space_is_short(store, "a compaction");
    }
    enum space_loan asked = SPACE_ASKED;
    if (atomic_load(&store->loan) != SPACE_OWN) {
        if (set_ballast(store, needed_bytes(store)) == ERR_OK &&
            atomic_compare_exchange_strong(&store->loan, &asked, SPACE_LENT)) {
            sleeper_wake(&store->compaction_sleeper);
        }
        return false;
    }
    enum err err = set_ballast(store, whole_bytes(store));
    if (err == ERR_NO_SPACE) {
        space_is_short(store, "the ballast");
        (void)!set_ballast(store, needed_bytes(store));
    }
    return err == ERR_OK;
}

bool space_look_again(struct store *store)
{
    if (is_compaction_in_the_way(store) || !atomic_exchange(&store->no_space, false)) {
        return false;
    }
    engine_event(store, STORE_EVENT_SPACE_BACK, "there is space in %s again", store->dir_path);
    kick_log(store);
    return true;
}

/* --- Lending --- */

bool space_borrow(struct store *store)
{
    enum space_loan own = SPACE_OWN;
    if (!atomic_load(&store->no_space) || atomic_load(&store->loan) == SPACE_LENT) {
        return true;
    }
    if (atomic_compare_exchange_strong(&store->loan, &own, SPACE_ASKED)) {
        atomic_store(&store->requests_changed, true);
        sleeper_wake(&store->flush_sleeper);
    }
    return false;
}

uint64_t space_to_lend(struct store *store)
{
    uint64_t whole = whole_bytes(store), needed = needed_bytes(store);
    return whole > needed ? whole - needed : 0;
}

void space_return(struct store *store, enum err err)
{
    atomic_store(&store->compaction_starved, err == ERR_NO_SPACE);
    if (atomic_exchange(&store->loan, SPACE_OWN) != SPACE_OWN || err == ERR_NO_SPACE) {
        atomic_store(&store->requests_changed, true);
        sleeper_wake(&store->flush_sleeper);
    }
}
