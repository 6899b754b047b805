/*
 * bench_scale: what grows with the data, and what shouldn't. A long run, by hand.
 *
 *   --most N     most items: 10,000,000 unless given; smaller counts from 100,000 on, by tens
 *   --log N      MiB of memtable whose log is recovered: 1,024 unless given
 *   --tables N   MiB of tables that are opened: 10,240 unless given
 *   --rounds N   1 unless given
 *   --dir DIR    where the databases are made
 *   --peers A,B  these engines; varve unless given
 *   --only A,B   these stages only: items, log, tables
 *   --quick      little of everything that isn't given, to see that it runs
 *
 * Each engine and stage in a process and a directory of its own, in turning order; each value that
 * is read is checked.
 *
 *   items    for each count: the time of a random fill, not synced but at its end; of random reads;
 *            of a scan of everything; of opening, once with nothing in the page cache. How much was
 *            written and is taken up once the fill has come to rest, over bytes of keys and values.
 *            The most memory without mapped pages (RssAnon) that was seen meanwhile
 *   log      varve: a memtable is filled to just below the size at which it would be sealed, and
 * the process ends at once, closing nothing; the time of the next opening, with nothing in the page
 * cache tables   the time of opening a database of that size, with and without the page cache
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store_sync.h"
#include "tests/bench/engines.h"
#include "tests/bench/items.h"
#include "tests/bench/measure.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"

enum { SMALL_BYTES = 100, LARGE_BYTES = 1000, READS_MAX = 1000000, CHECKS = 1000 };

static uint64_t fewest_items, most_items, log_mib, tables_mib;

/* What one engine does in one round. */
struct turn {
    const struct engine *engine;
    unsigned round;
    uint64_t n; /* items */
    size_t value_bytes;
    char dir[TEMP_DIR_BYTES];
    void *db, *session;
    uint64_t memory_bytes; /* most that was seen */
};

static void turn_open(struct turn *turn)
{
    turn->db = turn->engine->open(turn->dir, false);
    turn->session = turn->engine->session_new(turn->db);
}

static void turn_close(struct turn *turn)
{
    turn->engine->session_free(turn->session);
    turn->engine->close(turn->db);
}

static void look_at_memory(struct turn *turn)
{
    uint64_t bytes = measure_anonymous_bytes();
    turn->memory_bytes = bytes > turn->memory_bytes ? bytes : turn->memory_bytes;
}

/* --- Figures: all of them are better when lower -------------------------------------------------
 */

static void print(const struct turn *turn, const char *work, double value, const char *unit)
{
    char with_size[128];
    (void)snprintf(with_size, sizeof with_size, "%s, %" PRIu64 " items", work, turn->n);
    struct figure figure = {.group = "scale",
                            .work = with_size,
                            .peer = turn->engine->name,
                            .round = turn->round,
                            .value = value,
                            .unit = unit,
                            .lower_is_better = true};
    figure_print(&figure, "\"items\":%" PRIu64 ",\"value_bytes\":%zu", turn->n, turn->value_bytes);
}

static void print_time_each(const struct turn *turn, const char *work, uint64_t n,
                            uint64_t began_ns)
{
    print(turn, work, (double)(measure_now_ns() - began_ns) / (double)n, "ns/op");
}

/* --- Items ------------------------------------------------------------------------------------ */

static void fill(struct turn *turn, bool shuffled)
{
    uint64_t look_every = turn->n / 256 + 1;
    for (uint64_t i = 0; i < turn->n; i++) {
        uint64_t place = shuffled ? item_shuffled(i, turn->n) : i;
        item_put(turn->engine, turn->session, 2 * place, 0, turn->value_bytes);
        if (i % look_every == 0) {
            look_at_memory(turn);
        }
    }
    turn->engine->sync(turn->session);
}

static void read_randomly(struct turn *turn, uint64_t n)
{
    struct prng prng;
    prng_init(&prng, turn->round);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t version = item_get(turn->engine, turn->session, 2 * prng_below(&prng, turn->n),
                                    turn->value_bytes);
        measure_check(version == 0, turn->engine->name, "an item is missing");
    }
    look_at_memory(turn);
}

static void print_amplification(const struct turn *turn)
{
    double live_bytes = (double)(turn->n * (ITEM_KEY_BYTES + turn->value_bytes));
    print(turn, "write amplification", (double)measure_written_bytes() / live_bytes, "×");
    print(turn, "space amplification", (double)measure_dir_bytes(turn->dir) / live_bytes, "×");
}

/* Opens with nothing in the page cache, and again with everything that this has read. */
static void time_opening(struct turn *turn)
{
    static const char *const works[] = {"open, cold", "open"};
    measure_drop_cache(turn->dir);
    for (size_t i = 0; i < 2; i++) {
        uint64_t began = measure_now_ns();
        turn_open(turn);
        print(turn, works[i], (double)(measure_now_ns() - began) / 1e6, "ms");
        read_randomly(turn, i == 1 ? CHECKS : 0);
        turn_close(turn);
    }
}

static void measure_items(void *arg)
{
    struct turn *turn = arg;
    uint64_t n_reads = turn->n < READS_MAX ? turn->n : READS_MAX;
    turn_open(turn);
    uint64_t began = measure_now_ns();
    fill(turn, true);
    print_time_each(turn, "fill", turn->n, began);
    measure_settle();
    print_amplification(turn);

    read_randomly(turn, n_reads); /* warm */
    began = measure_now_ns();
    read_randomly(turn, n_reads);
    print_time_each(turn, "random read", n_reads, began);
    began = measure_now_ns();
    uint64_t seen = item_scan(turn->engine, turn->session, 0, UINT64_MAX, turn->value_bytes);
    print_time_each(turn, "full scan", turn->n, began);
    measure_check(seen == turn->n, "scan", "too few items, or too many");
    look_at_memory(turn);
    turn_close(turn);
    print(turn, "memory", (double)turn->memory_bytes / 1048576, "MiB");
    time_opening(turn);
}

static void stage_items(struct turn *turn)
{
    turn->value_bytes = SMALL_BYTES;
    for (turn->n = fewest_items; turn->n < most_items; turn->n *= 10) {
        measure_apart(measure_items, turn);
        temp_dir_remove(turn->dir);
        measure_check(mkdir(turn->dir, 0700) == 0, turn->dir, "can't be made");
    }
    turn->n = most_items;
    measure_apart(measure_items, turn);
}

/* --- The log ---------------------------------------------------------------------------------- */

/* What the process that ended leaves to the next. */
static struct left {
    uint64_t items, log_bytes;
} * left;

static struct store *open_store(const struct turn *turn)
{
    struct store_options options = store_options_default();
    struct err_detail why;
    struct store *store;
    options.dir = turn->dir;
    options.memtable_bytes = log_mib << 20;
    measure_check(store_open(&options, &store, &why) == ERR_OK, "varve", why.text);
    return store;
}

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    (void)arg;
    (void)written;
    measure_check(err == ERR_OK, "varve: write", err_text(err));
}

/* A write of the next few items, which are put in order of their numbers. */
static struct store_write *next_items(struct store *store, size_t value_bytes)
{
    enum { TOGETHER = 100 };
    struct store_write_size size = {.ops = TOGETHER,
                                    .bytes = TOGETHER * (ITEM_KEY_BYTES + value_bytes)};
    struct store_write *write;
    enum err err = store_write_new_sync(store, &size, &write);
    for (uint64_t i = 0; i < TOGETHER && err == ERR_OK; i++) {
        char key[ITEM_KEY_BYTES];
        void *into;
        uint64_t number = 2 * left->items++;
        struct store_put put = {.key = item_key(number, key), .value_bytes = value_bytes};
        err = store_write_put(write, &put, &into);
        if (err == ERR_OK) {
            item_value(number, 0, into, value_bytes);
        }
    }
    measure_check(err == ERR_OK, "varve", err_text(err));
    return write;
}

/* Ends the process as a kill would once the memtable is nearly full and all of it is in the log. */
static void fill_log(void *arg)
{
    struct turn *turn = arg;
    struct store *store = open_store(turn);
    uint64_t enough_bytes = (log_mib << 20) - (log_mib << 20) / 32;
    struct store_stats stats;
    do {
        store_write_commit(next_items(store, turn->value_bytes), on_written, NULL);
        store_stats(store, &stats);
    } while (stats.memtable_bytes < enough_bytes);
    enum err err =
        store_write_commit_sync(next_items(store, turn->value_bytes), NULL); /* and all before */
    measure_check(err == ERR_OK, "varve", err_text(err));
    store_stats(store, &stats);
    measure_check(stats.rotations == 0, "varve", "the memtable was sealed");
    left->log_bytes = stats.log_bytes_used;
    _exit(0);
}

static void recover(void *arg)
{
    struct turn *turn = arg;
    measure_drop_cache(turn->dir);
    uint64_t began = measure_now_ns();
    struct store *store = open_store(turn);
    double ms = (double)(measure_now_ns() - began) / 1e6;
    struct store_stats stats;
    store_stats(store, &stats);
    measure_check(stats.recovered_records == left->items, "varve", "recovered another number");
    for (uint64_t i = 0; i < CHECKS; i++) {
        char key[ITEM_KEY_BYTES];
        struct store_entry entry;
        uint64_t number = 2 * item_shuffled(i, left->items);
        bool found = false;
        enum err err = store_get_sync(store, item_key(number, key), &found, &entry);
        measure_check(err == ERR_OK && found, "varve", "an item is missing");
        (void)item_check(number, entry.value, turn->value_bytes);
        store_entry_release(&entry);
    }
    store_close(store);

    char work[128];
    (void)snprintf(work, sizeof work, "recovery of a memtable of %" PRIu64 " MiB, values of %zu",
                   log_mib, turn->value_bytes);
    struct figure figure = {.group = "scale",
                            .work = work,
                            .peer = turn->engine->name,
                            .round = turn->round,
                            .value = ms,
                            .unit = "ms",
                            .lower_is_better = true};
    figure_print(&figure, "\"items\":%" PRIu64 ",\"log_bytes\":%" PRIu64, left->items,
                 left->log_bytes);
}

static void stage_log(struct turn *turn)
{
    static const size_t sizes[] = {SMALL_BYTES, LARGE_BYTES};
    for (size_t i = 0; i < 2 && turn->engine == &engine_varve; i++) {
        *left = (struct left){.items = 0};
        turn->value_bytes = sizes[i];
        measure_apart(fill_log, turn);
        measure_apart(recover, turn);
        temp_dir_remove(turn->dir);
        measure_check(mkdir(turn->dir, 0700) == 0, turn->dir, "can't be made");
    }
}

/* --- Tables ----------------------------------------------------------------------------------- */

static void measure_tables(void *arg)
{
    struct turn *turn = arg;
    turn_open(turn);
    fill(turn, false);
    turn_close(turn);
    time_opening(turn);
}

static void stage_tables(struct turn *turn)
{
    turn->value_bytes = LARGE_BYTES;
    turn->n = (tables_mib << 20) / (ITEM_KEY_BYTES + LARGE_BYTES);
    measure_apart(measure_tables, turn);
}

static const struct stage {
    const char *name;
    void (*run)(struct turn *turn);
} stages[] = {{"items", stage_items}, {"log", stage_log}, {"tables", stage_tables}};

enum { STAGES = sizeof stages / sizeof stages[0] };

int main(int argc, char *argv[])
{
    const char *dir = NULL, *peers = "varve", *only = NULL;
    uint64_t rounds = 1;
    bool quick = false;
    const struct measure_option options[] = {
        {.name = "most", .number = &most_items},
        {.name = "log", .number = &log_mib},
        {.name = "tables", .number = &tables_mib},
        {.name = "rounds", .number = &rounds},
        {.name = "dir", .text = &dir},
        {.name = "peers", .text = &peers},
        {.name = "only", .text = &only},
        {.name = "quick", .flag = &quick},
    };
    measure_options(argc, argv, options, sizeof options / sizeof options[0]);
    fewest_items = quick ? 1000 : 100000;
    most_items = most_items ? most_items : quick ? 10000 : 10000000;
    log_mib = log_mib ? log_mib : quick ? 16 : 1024;
    tables_mib = tables_mib ? tables_mib : quick ? 16 : 10240;
    left = mmap(NULL, sizeof *left, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    measure_check(left != MAP_FAILED, "mmap", "failed");
    size_t n_engines;
    const struct engine *const *engines = engines_chosen(peers, &n_engines);
    const char *base = measure_dir(dir);
    for (unsigned round = 1; round <= rounds; round++) {
        for (size_t s = 0; s < STAGES; s++) {
            for (size_t e = 0; e < n_engines && measure_wanted(only, stages[s].name); e++) {
                struct turn turn = {.engine = engines[(e + round) % n_engines], .round = round};
                (void)snprintf(turn.dir, sizeof turn.dir, "%s/%s", base, turn.engine->name);
                measure_check(mkdir(turn.dir, 0700) == 0, turn.dir, "can't be made");
                stages[s].run(&turn);
                temp_dir_remove(turn.dir);
            }
        }
    }
    return 0;
}
