/* The machine: loses power, fails, fills up, or leaves out a sync. */
#include <stdio.h>
#include <string.h>

#include "store/lsm/files.h"
#include "store/lsm/manifest.h"
#include "tests/crash/sim_parts.h"

const char *sim_omission_name(enum sim_omission omission)
{
    static const char *const names[SIM_OMISSIONS] = {"nothing",
                                                     "sync of frames",
                                                     "sync of a segment",
                                                     "sync of a table",
                                                     "sync of a manifest",
                                                     "directory sync of a segment",
                                                     "directory sync of a table",
                                                     "directory sync of a manifest"};
    return names[omission];
}

const char *sim_mishap_name(enum sim_mishap mishap)
{
    static const char *const names[SIM_MISHAPS] = {
        "killed before", "killed amid", "EIO at", "EIO from", "no space from", "a part only of"};
    return names[mishap];
}

static char kind_of(const char *name)
{
    return strstr(name, ".log") ? 'L' : strstr(name, ".table") ? 'T' : 'M';
}

/* Which of the syncs that can be left out this is. */
static enum sim_omission classify(const struct sim *sim, const struct vfs_mem_call *call)
{
    if (call->op == VFS_MEM_SYNC) {
        switch (kind_of(call->name)) {
        case 'L':
            return sim->last_created == 'L' ? SIM_OMIT_SEGMENT_SYNC : SIM_OMIT_LOG_SYNC;
        case 'T':
            return SIM_OMIT_TABLE_SYNC;
        default:
            return SIM_OMIT_MANIFEST_SYNC;
        }
    }
    if (call->op == VFS_MEM_DIR_SYNC) {
        return sim->last_created == 'L'   ? SIM_OMIT_SEGMENT_DIR_SYNC
               : sim->last_created == 'T' ? SIM_OMIT_TABLE_DIR_SYNC
                                          : SIM_OMIT_MANIFEST_DIR_SYNC;
    }
    return SIM_OMIT_NOTHING;
}

static void note_call(struct sim *sim, const struct vfs_mem_call *call)
{
    sim_note(sim, (uint64_t)call->op);
    sim_note(sim, call->offset);
    sim_note(sim, call->size_bytes);
    for (const char *at = call->name; *at; at++) {
        sim_note(sim, (unsigned char)*at);
    }
}

/* A failed sync is never repeated, and after a failed manifest no other is written. */
static void check_call(struct sim *sim, const struct vfs_mem_call *call)
{
    bool writes = call->op == VFS_MEM_WRITE || call->op == VFS_MEM_SYNC;
    if (sim->poisoned && writes && strcmp(call->name, sim->poisoned_segment) == 0) {
        sim_violate(sim, "%s of %s after it had failed", vfs_mem_op_name(call->op), call->name);
    }
    if (sim->manifest_failed && call->op == VFS_MEM_RENAME) {
        sim_violate(sim, "a manifest was replaced after that had failed before");
    }
    if (sim->scrubbing && VFS_MEM_BIT(call->op) & VFS_MEM_CHANGES) {
        sim_violate(sim, "%s of %s by the scrubber", vfs_mem_op_name(call->op), call->name);
    }
}

/* Between a manifest's rename and its directory sync is where most orders matter; chance alone
 * seldom gets there. */
static bool is_fragile(struct sim *sim, const struct vfs_mem_call *call)
{
    return sim->crash_at != 0 && call->op == VFS_MEM_DIR_SYNC && sim->last_created == 'M' &&
           prng_chance(&sim->random, 5);
}

static bool fails(struct sim *sim, const struct vfs_mem_call *call)
{
    struct sim_fault *fault = &sim->fault;
    if (fault->times == 0 || call->number < fault->at || !(fault->ops & VFS_MEM_BIT(call->op)) ||
        !prng_chance(&sim->random, fault->percent)) {
        return false;
    }
    fault->times--;
    return true;
}

static struct vfs_mem_verdict fail(struct sim *sim, const struct vfs_mem_call *call)
{
    struct vfs_mem_verdict verdict = sim->fault.verdict;
    verdict.bytes = call->size_bytes ? prng_below(&sim->random, call->size_bytes) : 0;
    sim->result->failed_operations++;
    sim->result->scrub_failures += sim->scrubbing;
    sim->scrub_failed = sim->last_fails = true;
    snprintf(sim->last_failed, sizeof sim->last_failed, "%s", call->name);
    if (sim->fault.fills) {
        sim_disk_fill(sim, 0);
    }
    if (verdict.err == ERR_NO_SPACE) {
        sim->space_failed = true;
    } else {
        sim->io_failed = true;
    }
    sim->dir_uncertain = sim->dir_uncertain || call->op == VFS_MEM_DIR_SYNC;
    return verdict;
}

static struct vfs_mem_verdict hook(void *arg, const struct vfs_mem_call *call)
{
    struct sim *sim = arg;
    note_call(sim, call);
    check_call(sim, call);
    sim->last_fails = false;
    if (call->number == sim->crash_at || is_fragile(sim, call)) {
        sim->crashed = true;
        sim->result->crashes_in_stops += sim->stopped;
        return (struct vfs_mem_verdict){
            .action = sim->crash_action,
            .bytes = call->size_bytes ? prng_below(&sim->random, call->size_bytes) : 0};
    }
    enum sim_omission what = classify(sim, call);
    if (call->op == VFS_MEM_CREATE) {
        sim->last_created = kind_of(call->name);
    } else if (call->op == VFS_MEM_DIR_SYNC) {
        sim->last_created = 0;
    }
    if (what != SIM_OMIT_NOTHING && what == sim->options->omission) {
        sim->result->omitted++;
        return (struct vfs_mem_verdict){.action = VFS_MEM_SKIP};
    }
    if (fails(sim, call)) {
        return fail(sim, call);
    }
    return (struct vfs_mem_verdict){.action = VFS_MEM_DO};
}

void sim_disk_new(struct sim *sim)
{
    sim->vfs = vfs_mem_new(prng_next(&sim->random));
    vfs_mem_set_hook(sim->vfs, hook, sim);
}

void sim_disk_trust(struct sim *sim, bool trust)
{
    vfs_mem_set_hook(sim->vfs, trust ? NULL : hook, sim);
}

void sim_disk_plan_crash(struct sim *sim, uint64_t within)
{
    sim->crash_at = vfs_mem_total(sim->vfs) + 1 + prng_below(&sim->random, within);
    sim->crash_action = prng_chance(&sim->random, 50) ? VFS_MEM_CRASH : VFS_MEM_CRASH_PARTLY;
}

void sim_disk_plan_fault(struct sim *sim, uint64_t within)
{
    struct prng *random = &sim->random;
    struct sim_fault fault = {.at = vfs_mem_total(sim->vfs) + 1 + prng_below(random, within),
                              .times = UINT64_MAX,
                              .ops = VFS_MEM_ANY,
                              .percent = 100};
    switch (prng_below(random, 4)) {
    case 0:
        fault.times = 1;
        break;
    case 1: /* for ever */
        break;
    case 2: /* for ever, of one kind */
        fault.ops = VFS_MEM_BIT((unsigned)prng_below(random, VFS_MEM_N_OPS));
        break;
    default: /* now and then */
        fault.percent = 1 + (unsigned)prng_below(random, 20);
        break;
    }
    fault.verdict.action = prng_chance(random, 50) ? VFS_MEM_FAIL : VFS_MEM_FAIL_PARTLY;
    fault.verdict.err = prng_chance(random, 30) ? ERR_NO_SPACE : ERR_IO;
    if (fault.verdict.err == ERR_NO_SPACE) {
        fault.ops &= VFS_MEM_CHANGES; /* reading takes no space */
    }
    sim->fault = fault;
}

void sim_disk_fill(struct sim *sim, uint64_t bytes)
{
    sim->filled = sim->space_failed = true;
    vfs_mem_set_capacity(sim->vfs, vfs_mem_used(sim->vfs) + bytes);
}

struct removable {
    struct vfs_dir *dir;
    const struct manifest *manifest;
    uint64_t bytes;
};

static bool is_named(const struct manifest *manifest, uint64_t number)
{
    bool named = false;
    for (size_t i = 0; i < manifest->n_segments; i++) {
        named = named || manifest->segments[i] == number;
    }
    for (size_t i = 0; i < manifest->n_tables; i++) {
        named = named || manifest->tables[i].info.number == number;
    }
    return named;
}

static bool add_removable(void *arg, const char *name)
{
    struct removable *removable = arg;
    struct vfs_file *file;
    enum file_kind kind;
    uint64_t number, size = 0;
    bool counts = files_parse_name(name, &kind, &number) ? !is_named(removable->manifest, number)
                                                         : strcmp(name, FILES_BALLAST) == 0;
    if (counts && vfs_open(removable->dir, name, VFS_READ, &file) == ERR_OK) {
        (void)!vfs_size(file, &size);
        vfs_close(file);
    }
    removable->bytes += size;
    return true;
}

/* Tables beside their records, and a manifest; as space.c reckons. */
#define OVERHEAD_PART  8u
#define OVERHEAD_BYTES (UINT64_C(64) << 10)

static bool fill_to_open(struct sim *sim, struct vfs_dir *dir)
{
    struct manifest manifest;
    if (prng_chance(&sim->random, 50)) {
        (void)!vfs_unlink(dir, FILES_BALLAST);
    }
    if (manifest_load(dir, &manifest, NULL) != ERR_OK) {
        return false;
    }
    bool same = manifest.number == sim->left_number;
    struct removable removable = {.dir = dir, .manifest = &manifest};
    enum err err = vfs_dir_list(dir, add_removable, &removable);
    manifest_release(&manifest);
    if (!same || err != ERR_OK) {
        return false;
    }
    uint64_t needed = sim->left_bytes + sim->left_bytes / OVERHEAD_PART;
    needed = needed > removable.bytes ? needed - removable.bytes : 0;
    sim_disk_fill(sim, needed + OVERHEAD_BYTES);
    return true;
}

bool sim_disk_fill_to_open(struct sim *sim)
{
    struct vfs_dir *dir;
    sim_disk_trust(sim, true);
    bool done = false;
    if (vfs_dir_open(vfs_mem_vfs(sim->vfs), "data", false, &dir) == ERR_OK) {
        done = fill_to_open(sim, dir);
        vfs_dir_close(dir);
    }
    sim_disk_trust(sim, false);
    return done;
}

void sim_disk_heal(struct sim *sim)
{
    sim->fault.times = 0;
    sim->filled = false;
    vfs_mem_set_capacity(sim->vfs, UINT64_MAX);
}

void sim_disk_after_crash(struct sim *sim, enum mem_keep keep)
{
    struct vfs_mem *after = vfs_mem_crash_clone(sim->vfs, keep, prng_next(&sim->random));
    sim->result->operations = vfs_mem_total(sim->vfs);
    vfs_mem_free(sim->vfs);
    sim->vfs = after;
    vfs_mem_set_hook(sim->vfs, hook, sim);
    sim_disk_heal(sim);
    sim->crashed = false;
    sim->crash_at = 0;
    sim->last_created = 0;
    sim->dir_uncertain = false;
}
