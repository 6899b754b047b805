/* Freeing what nobody refers to any more: unmapping, unlinking and freeing arenas take long, so no
 * thread that serves a request does it. */
#include "store/lsm/engine.h"

void engine_reap_view(struct store *store, struct view *view)
{
    pthread_mutex_lock(&store->reaper_mutex);
    view->next_reaped = store->reaped_views;
    store->reaped_views = view;
    pthread_mutex_unlock(&store->reaper_mutex);
    sleeper_wake(&store->reaper_sleeper);
}

void engine_reap_table(struct store *store, struct table *table)
{
    pthread_mutex_lock(&store->reaper_mutex);
    *table_link(table) = store->reaped_tables;
    store->reaped_tables = table;
    pthread_mutex_unlock(&store->reaper_mutex);
    sleeper_wake(&store->reaper_sleeper);
}

/* Keeps the sums of the filters' counts from falling when a table goes. */
static void free_table(struct store *store, struct table *table)
{
    struct table_filter_counts counts = table_filter_counts(table);
    struct counters *sums = &store->counters;
    atomic_fetch_add_explicit(&sums->filter_lookups, counts.lookups, memory_order_relaxed);
    atomic_fetch_add_explicit(&sums->filter_positives, counts.positives, memory_order_relaxed);
    atomic_fetch_add_explicit(&sums->filter_false_positives, counts.false_positives,
                              memory_order_relaxed);
    table_free(table);
}

bool engine_reclaim_step(struct store *store)
{
    /* Without threads, what RCU put off waits for this step too. */
    bool found = store->options.manual && rcu_door_reclaim();

    pthread_mutex_lock(&store->reaper_mutex);
    struct view *views = store->reaped_views;
    struct table *tables = store->reaped_tables;
    store->reaped_views = NULL;
    store->reaped_tables = NULL;
    pthread_mutex_unlock(&store->reaper_mutex);

    while (views) {
        struct view *next = views->next_reaped;
        view_free(views); /* may bring the next step tables */
        views = next;
        found = true;
    }
    while (tables) {
        struct table *next = *table_link(tables);
        free_table(store, tables);
        tables = next;
        found = true;
    }
    return found;
}

static bool has_work(void *arg)
{
    struct store *store = arg;
    pthread_mutex_lock(&store->reaper_mutex);
    bool found = store->reaped_views || store->reaped_tables;
    pthread_mutex_unlock(&store->reaper_mutex);
    return found || atomic_load(&store->stop_background);
}

void *engine_reaper_thread(void *arg)
{
    struct store *store = arg;
    while (!atomic_load(&store->stop_background)) {
        while (engine_reclaim_step(store)) {
        }
        sleeper_wait(&store->reaper_sleeper, has_work, store, UINT64_MAX);
    }
    return NULL;
}
