/* The life of a store: opening, closing, going down, and what must hold when it is back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/check.h"
#include "tests/crash/sim_parts.h"

#define NOT_FORETOLD  UINT64_MAX
#define SETTLED_STEPS 5000u /* by then everything has an end */
#define TRIES_MAX     3u    /* openings that fail or crash, then one may succeed */

/* --- Events --- */

/* Whether there is a reason for the event: for the scrubber's it came in the same step. */
static bool is_allowed(const struct sim *sim, enum store_event_kind kind)
{
    bool io = (sim->scrubbing ? sim->scrub_failed : sim->io_failed) || sim->crashed;
    bool space = sim->space_failed || sim->crashed;
    bool failed = kind == STORE_EVENT_LOG_POISONED || kind == STORE_EVENT_MANIFEST_FAILED ||
                  kind == STORE_EVENT_BACKGROUND_FAILED;
    return !(failed && !io && !space) && !(kind == STORE_EVENT_TABLE_DAMAGED && !io) &&
           !(kind == STORE_EVENT_NO_SPACE && !space) && kind != STORE_EVENT_CORRUPTION;
}

static void on_event(void *arg, const struct store_event *event)
{
    struct sim *sim = arg;
    sim_note(sim, (uint64_t)event->kind);
    sim->result->torn_tails += event->kind == STORE_EVENT_TORN_TAIL;
    sim->result->flushes += event->kind == STORE_EVENT_FLUSHED;
    sim->result->compactions += event->kind == STORE_EVENT_COMPACTED;
    sim->result->full_disks += event->kind == STORE_EVENT_NO_SPACE;
    sim->result->scrub_reports += sim->scrubbing && event->kind == STORE_EVENT_TABLE_DAMAGED;
    if (event->kind == STORE_EVENT_LOG_POISONED) {
        sim->poisoned = true;
        memcpy(sim->poisoned_segment, sim->last_failed, sizeof sim->last_failed);
        sim->result->poisoned_logs += !sim->crashed;
    } else if (event->kind == STORE_EVENT_MANIFEST_FAILED) {
        sim->manifest_failed = true;
        sim->result->failed_manifests += !sim->crashed;
    }
    if (!is_allowed(sim, event->kind)) {
        sim_violate(sim, "without reason: %s", event->text);
    }
}

void sim_check_state(struct sim *sim)
{
    bool failed = sim->poisoned || sim->manifest_failed;
    if (sim->store && (store_state(sim->store) == STORE_READ_ONLY) != failed) {
        sim_violate(sim, "the store is %s though its log and manifest %s",
                    failed ? "not read-only" : "read-only", failed ? "failed" : "have not failed");
    }
}

/* --- Opening, going down, closing --- */

static enum err try_open(struct sim *sim, struct err_detail *detail)
{
    struct store_options options = store_options_default();
    options.dir = "data";
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    options.max_value_bytes = SIM_VALUE_MAX;
    options.max_inflight_bytes = 256 * 1024;
    options.vfs = vfs_mem_vfs(sim->vfs);
    options.manual = true;
    options.on_event = on_event;
    options.arg = sim;
    enum err err = store_open(&options, &sim->store, detail);
    sim_note(sim, (uint64_t)err);
    if (err == ERR_OK) {
        sim->store->on_stop = sim_on_stop;
        if (sim->epoch != 0 && sim->store->epoch != sim->epoch) {
            sim_violate(sim, "the store has another epoch");
        }
        sim->epoch = sim->store->epoch;
        sim->left_number = 0;
    }
    return err;
}

/* What an opening may fail with. */
static bool may_fail(const struct sim *sim, enum err err)
{
    return (err == ERR_IO && sim->io_failed) ||
           (err == ERR_NO_SPACE && sim->space_failed && !sim->fits) ||
           (err == ERR_OUTCOME_UNKNOWN && sim->manifest_failed);
}

enum err sim_open(struct sim *sim)
{
    struct err_detail detail;
    enum err err = try_open(sim, &detail);
    if (err != ERR_OK && !sim->crashed && !may_fail(sim, err)) {
        sim_violate(sim, "the store did not open: %s: %s", err_name(err), detail.text);
    }
    return err;
}

static void begin_life(struct sim *sim)
{
    sim->io_failed = false;
    sim->space_failed = sim->filled;
    sim->fits = false;
    sim->poisoned = sim->manifest_failed = false;
    sim->ending = sim->abandoned = false;
}

/* Everything that was under way must have been answered. */
static void check_answered(struct sim *sim)
{
    if (sim_writes_are_pending(sim)) {
        sim_violate(sim, "a write was never answered");
    }
    if (sim->requests != 0) {
        sim_violate(sim, "a flush or compaction that was asked for was never answered");
    }
}

static void prepare_to_end(struct sim *sim)
{
    sim->result->rotations += atomic_load(&sim->store->counters.rotations);
    sim->ending = true;
    sim_abort_admitted(sim);
    sim_let_go(sim);
}

/* The log has nothing else than memory, or less. */
static void note_left(struct sim *sim)
{
    rcu_door_lock();
    const struct view *view = atomic_load(&sim->store->view);
    uint64_t bytes = memtable_bytes(view->active);
    for (size_t i = 0; i < view->n_sealed; i++) {
        bytes += memtable_bytes(view->sealed[i]);
    }
    rcu_door_unlock();
    sim->left_bytes = bytes;
    sim->left_number = sim->store->manifest_number;
}

static void abandon(struct sim *sim)
{
    prepare_to_end(sim);
    note_left(sim);
    sim->abandoned = true;
    engine_abandon(sim->store);
    sim->store = NULL;
    check_answered(sim);
}

void sim_lose_power(struct sim *sim, enum mem_keep keep)
{
    if (sim->store) {
        abandon(sim);
    }
    sim->foretold = NOT_FORETOLD; /* by what may not have been synced */
    sim_disk_after_crash(sim, keep);
}

bool sim_close(struct sim *sim)
{
    prepare_to_end(sim);
    store_close(sim->store);
    sim->store = NULL;
    check_answered(sim);
    /* After a failed sync of the directory no name is certain on this disk until power is lost
     * (mem_dir.h); a real one would have become read-only. */
    return !sim->crashed && !sim->dir_uncertain;
}

/* --- What the files say by themselves --- */

static void on_finding(void *arg, const struct check_finding *finding)
{
    struct sim *sim = arg;
    if (finding->problem) {
        sim_violate(sim, "check finds in %s, offset %llu: %s", finding->file,
                    (unsigned long long)finding->offset, finding->text);
    }
}

/* `varve check`, and the newest number that it foretells. */
static uint64_t look_at_files(struct sim *sim)
{
    struct check_summary summary;
    struct err_detail detail;
    sim->result->checks++;
    sim_disk_trust(sim, true);
    enum err err = check_dir(vfs_mem_vfs(sim->vfs), "data", on_finding, sim, &summary, &detail);
    sim_disk_trust(sim, false);
    if (err != ERR_OK) {
        sim_violate(sim, "check can't look: %s", detail.text);
    }
    return summary.last_seq;
}

static bool count_file(void *arg, const char *name)
{
    uint64_t *counts = arg;
    counts[strstr(name, ".log") ? 0 : strstr(name, ".table") ? 1 : 2]++;
    return true;
}

/* After an opening there are just the files that the manifest names. */
static void check_no_orphans(struct sim *sim)
{
    uint64_t counts[3] = {0}, tables = 0;
    struct store_stats stats;
    store_stats(sim->store, &stats);
    for (unsigned level = 0; level < STORE_LEVELS; level++) {
        tables += stats.level_tables[level];
    }
    sim_disk_trust(sim, true);
    enum err err = vfs_dir_list(sim->store->dir, count_file, counts);
    sim_disk_trust(sim, false);
    if (err != ERR_OK || counts[0] != 1 || counts[1] != tables || counts[2] > 2) {
        sim_violate(sim, "after opening there are %llu segments, %llu tables of %llu, %llu others",
                    (unsigned long long)counts[0], (unsigned long long)counts[1],
                    (unsigned long long)tables, (unsigned long long)counts[2]);
    }
}

/* --- Recovery --- */

static uint64_t newest_number(struct sim *sim)
{
    struct store_stats stats;
    store_stats(sim->store, &stats);
    return stats.last_number;
}

static void check_recovered(struct sim *sim)
{
    struct model_state state;
    char why[MODEL_TEXT_BYTES];
    uint64_t newest = newest_number(sim);
    sim_read_all(sim, &state);
    sim_note(sim, newest);
    if (!model_recover(sim->model, &state, newest, why)) {
        sim_violate(sim, "recovered what no crash may leave: %s", why);
    }
    if (sim->foretold != NOT_FORETOLD && sim->foretold != newest) {
        sim_violate(sim, "check foretold number %llu, recovered was %llu",
                    (unsigned long long)sim->foretold, (unsigned long long)newest);
    }
}

static void plan_trouble(struct sim *sim)
{
    uint64_t dice = prng_below(&sim->random, 100);
    if (dice < 25) {
        sim_disk_plan_crash(sim, 40);
    } else if (sim->options->omission != SIM_OMIT_NOTHING) {
        return;
    } else if (dice < 35) {
        sim_disk_plan_fault(sim, 60);
    } else if (dice < 40) {
        sim_disk_fill(sim, prng_below(&sim->random, 1 << 20));
    } else if (dice < 60 && sim->left_number != 0) {
        sim->fits = sim_disk_fill_to_open(sim);
        sim->result->full_openings += sim->fits;
        if (prng_chance(&sim->random, 50)) {
            sim_disk_plan_crash(sim, 60);
        }
    }
}

/* True once it is open. */
static bool recover_once(struct sim *sim, bool calm)
{
    begin_life(sim);
    if (!calm) {
        plan_trouble(sim);
    }
    enum err err = sim_open(sim);
    if (sim->crashed) {
        sim->result->crashes_in_recovery++;
        sim_lose_power(sim, prng_chance(&sim->random, 20) ? MEM_KEEP_NOTHING : MEM_KEEP_RANDOM);
        return false;
    }
    if (!calm || err != ERR_OK) {
        sim->crash_at = 0;
        sim_disk_heal(sim);
    }
    if (err == ERR_OK) {
        return true;
    }
    sim->result->failed_openings++;
    if (sim->dir_uncertain) {
        sim_lose_power(sim, MEM_KEEP_RANDOM);
    }
    return false;
}

void sim_recover(struct sim *sim, bool calm)
{
    sim->foretold =
        sim->epoch != 0 && prng_chance(&sim->random, 20) ? look_at_files(sim) : NOT_FORETOLD;
    for (unsigned tries = 0; !sim->result->violated; tries++) {
        if (recover_once(sim, calm || tries == TRIES_MAX)) {
            break;
        }
        if (tries == 2 * TRIES_MAX) {
            sim_violate(sim, "the store does not open, though nothing fails");
        }
    }
    if (sim->result->violated) {
        return;
    }
    check_recovered(sim);
    if (!sim->io_failed && !sim->space_failed && !sim->crashed) {
        check_no_orphans(sim);
    }
}

void sim_recover_again(struct sim *sim)
{
    struct model_state before, after;
    uint64_t newest = newest_number(sim);
    sim_read_all(sim, &before);
    abandon(sim);
    if (look_at_files(sim) != newest) {
        sim_violate(sim, "check foretells another newest number than was recovered");
    }
    begin_life(sim);
    if (sim_open(sim) != ERR_OK) {
        return;
    }
    sim_read_all(sim, &after);
    if (memcmp(&before, &after, sizeof before) != 0 || newest_number(sim) != newest) {
        sim_violate(sim, "a second recovery changed something");
    }
    check_no_orphans(sim);
}

/* --- Driving to an end --- */

struct request {
    struct sim *sim;
    uint64_t target; /* everything up to this number is to be in tables */
};

static bool may_answer(const struct sim *sim, enum err err)
{
    bool failed = sim->poisoned || sim->manifest_failed;
    return err == ERR_OK || (err == ERR_CLOSED && sim->ending) ||
           ((err == ERR_READ_ONLY || err == ERR_OUTCOME_UNKNOWN) && failed) ||
           (err == ERR_NO_SPACE && sim->space_failed) ||
           /* A name that others left in doubt is an I/O error, whatever theirs was. */
           (err == ERR_IO && (sim->io_failed || sim->dir_uncertain || sim->crashed));
}

static void on_answered(void *arg, enum err err)
{
    struct request *request = arg;
    struct sim *sim = request->sim;
    sim_note(sim, (uint64_t)err);
    sim->requests--;
    if (!may_answer(sim, err)) {
        sim_violate(sim, "a flush or compaction failed without reason: %s", err_name(err));
    }
    rcu_door_lock();
    uint64_t covered_seq = atomic_load(&sim->store->view)->covered_seq;
    rcu_door_unlock();
    if (err == ERR_OK && covered_seq < request->target) {
        sim_violate(sim, "a flush or compaction is done, and number %llu is in no table",
                    (unsigned long long)request->target);
    }
    free(request);
}

void sim_request(struct sim *sim, bool compact)
{
    struct request *request = malloc(sizeof *request);
    if (!request) {
        abort();
    }
    *request = (struct request){sim, model_next_number(sim->model) - 1};
    sim->requests++;
    (compact ? store_compact : store_flush)(sim->store, on_answered, request);
}

void sim_settle(struct sim *sim)
{
    bool more = true;
    sim_disk_heal(sim);
    for (unsigned i = 0; i < SETTLED_STEPS && !sim->crashed; i++) {
        sim_commit_admitted(sim);
        more = engine_log_step(sim->store);
        more = engine_flush_step(sim->store) || more;
        more = engine_compaction_step(sim->store) || more;
        more = sim_scrub(sim) || more;
        more = engine_reclaim_step(sim->store) || more;
        /* What would wake the flush thread. */
        more = atomic_load(&sim->store->requests_changed) || more;
        if (!more && sim->requests == 0 && !sim_writes_are_pending(sim)) {
            break;
        }
    }
    if (sim->crashed) {
        return;
    }
    if (more) {
        sim_violate(sim, "there is always more to do");
    }
    check_answered(sim);
    sim_check_state(sim);
    if (store_state(sim->store) == STORE_NO_SPACE) {
        sim_violate(sim, "puts are still refused, though there is space");
    }
}
