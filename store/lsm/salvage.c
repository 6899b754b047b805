/*
 * salvage.c - from a damaged directory to a new one, in this order: find out which tables and
 * segments count (salvage_source.h); sort what the log has into tables of the new directory; merge
 * all tables into the last level (salvage_merge.h); write the manifest, without which the new
 * directory can't be opened.
 */
#include "store/lsm/salvage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/compaction_pick.h"
#include "store/lsm/engine.h"
#include "store/lsm/files.h"
#include "store/lsm/salvage_source.h"

#define LOG_BATCH_BYTES (UINT64_C(64) << 20) /* of the log that is sorted at once */

struct salvage {
    struct salvage_options options;
    salvage_finding_fn *each;
    void *arg;
    struct salvage_summary *summary;
    struct err_detail *detail;
    struct salvage_source source;
    struct vfs_dir *to;

    struct salvage_input **log_inputs; /* tables made of the log, each a run of its own */
    size_t n_log_inputs, room_log_inputs;
    struct record **batch; /* of the log: copies, in order of their numbers */
    size_t n_batch, room_batch;
    uint64_t batch_bytes;

    uint64_t new_store_id;
    uint64_t next_file; /* number in the new directory */
    uint64_t last_seq;  /* greatest number met */
    struct table_writer *writer;
    struct manifest_table *outputs;
    size_t n_outputs, room_outputs;
};

/* --- Telling ---------------------------------------------------------------------------------- */

static void tell(void *arg, enum salvage_kind kind, const struct check_finding *finding)
{
    struct salvage *salvage = arg;
    struct salvage_summary *summary = salvage->summary;
    if (kind == SALVAGE_LOST) {
        uint64_t of_log = finding->first_seq > 0 ? finding->last_seq - finding->first_seq + 1 : 0;
        summary->places++;
        summary->lost_records += finding->records > 0 ? finding->records : of_log;
        summary->more_lost |= finding->records == 0 && of_log == 0;
    }
    summary->older += kind == SALVAGE_OLDER;
    salvage->each(salvage->arg, kind, finding);
}

/* --- Writing tables --------------------------------------------------------------------------- */

static enum err output_failed(struct salvage *salvage, enum err err)
{
    err_detail_set(salvage->detail, "cannot write to %s: %s", salvage->options.to, err_text(err));
    return err;
}

static enum err add_to_table(struct salvage *salvage, const struct record *record)
{
    enum err err = ERR_OK;
    if (!salvage->writer) {
        err = table_writer_new(salvage->to, salvage->next_file, salvage->new_store_id,
                               engine_random_id(), &salvage->writer);
        salvage->next_file += err == ERR_OK;
    }
    if (err == ERR_OK) {
        err = table_writer_add(salvage->writer, record);
    }
    return err == ERR_OK ? ERR_OK : output_failed(salvage, err);
}

static enum err finish_table(struct salvage *salvage, struct table_info *ret_info)
{
    enum err err = table_writer_finish(salvage->writer, ret_info);
    if (err == ERR_OK) {
        table_writer_free(salvage->writer);
        salvage->writer = NULL;
    }
    return err == ERR_OK ? ERR_OK : output_failed(salvage, err);
}

/* Opens the finished table again and reads all of it. */
static enum err verify_table(struct salvage *salvage, const struct table_info *info)
{
    struct table *table;
    struct err_detail why = {""};
    enum err err = table_open(salvage->to, salvage->new_store_id, info->number, info, &table, &why);
    if (err == ERR_OK) {
        err = table_verify(salvage->to, table, NULL, NULL, &why);
        table_free(table);
    }
    if (err != ERR_OK) {
        err_detail_set(salvage->detail, "%s: what was written can't be read back: %s",
                       salvage->options.to, why.text[0] != '\0' ? why.text : err_text(err));
    }
    return err;
}

static enum err finish_output(struct salvage *salvage)
{
    if (!salvage_make_room((void **)&salvage->outputs, salvage->n_outputs, &salvage->room_outputs,
                           sizeof salvage->outputs[0])) {
        return ERR_NO_MEMORY;
    }
    struct manifest_table *output = &salvage->outputs[salvage->n_outputs];
    output->level = MANIFEST_LEVELS - 1;
    enum err err = finish_table(salvage, &output->info);
    if (err == ERR_OK) {
        err = verify_table(salvage, &output->info);
    }
    if (err == ERR_OK) {
        salvage->n_outputs++;
        salvage->summary->bytes += output->info.size_bytes;
    }
    return err;
}

/* --- The log ---------------------------------------------------------------------------------- */

static int by_key_newest_first(const void *left, const void *right)
{
    const struct record *a = *(struct record *const *)left;
    const struct record *b = *(struct record *const *)right;
    int order = bytes_compare(record_key(a), record_key(b));
    return order != 0 ? order : a->seq > b->seq ? -1 : 1;
}

static void empty_batch(struct salvage *salvage)
{
    for (size_t i = 0; i < salvage->n_batch; i++) {
        free(salvage->batch[i]);
    }
    salvage->n_batch = 0;
    salvage->batch_bytes = 0;
}

static enum err add_log_input(struct salvage *salvage, const struct table_info *info)
{
    if (!salvage_make_room((void **)&salvage->source.runs, salvage->source.n_runs,
                           &salvage->source.room_runs, sizeof salvage->source.runs[0]) ||
        !salvage_make_room((void **)&salvage->log_inputs, salvage->n_log_inputs,
                           &salvage->room_log_inputs, sizeof salvage->log_inputs[0])) {
        return ERR_NO_MEMORY;
    }
    struct salvage_input *input = calloc(1, sizeof *input);
    if (!input) {
        return ERR_NO_MEMORY;
    }
    *input = (struct salvage_input){.dir = salvage->to, .has_info = true, .info = *info};
    files_name(FILE_TABLE, info->number, input->name);
    salvage->log_inputs[salvage->n_log_inputs++] = input;
    salvage->source.runs[salvage->source.n_runs++] = (struct salvage_run){.inputs = input, .n = 1};
    return ERR_OK;
}

/* What the log has so far becomes a table of the new directory, until all is merged. */
static enum err spill_batch(struct salvage *salvage)
{
    struct record **batch = salvage->batch;
    struct table_info info;
    enum err err = ERR_OK;

    if (salvage->n_batch == 0) {
        return ERR_OK;
    }
    qsort(batch, salvage->n_batch, sizeof batch[0], by_key_newest_first);
    for (size_t i = 0; err == ERR_OK && i < salvage->n_batch; i++) {
        if (i == 0 || !bytes_equal(record_key(batch[i]), record_key(batch[i - 1]))) {
            err = add_to_table(salvage, batch[i]);
        }
    }
    if (err == ERR_OK) {
        err = finish_table(salvage, &info);
    }
    if (err == ERR_OK) {
        err = add_log_input(salvage, &info);
    }
    empty_batch(salvage);
    return err;
}

static enum err take_log_record(void *arg, const struct record *record, const char *file)
{
    struct salvage *salvage = arg;
    uint64_t size = record_size(record);
    (void)file;
    if (!salvage_make_room((void **)&salvage->batch, salvage->n_batch, &salvage->room_batch,
                           sizeof salvage->batch[0])) {
        return ERR_NO_MEMORY;
    }
    struct record *copy = malloc(size);
    if (!copy) {
        return ERR_NO_MEMORY;
    }
    memcpy(copy, record, size);
    salvage->batch[salvage->n_batch++] = copy;
    salvage->batch_bytes += size;
    return salvage->batch_bytes >= LOG_BATCH_BYTES ? spill_batch(salvage) : ERR_OK;
}

static void tell_place(void *arg, const struct wal_place *place)
{
    struct salvage *salvage = arg;
    char text[512];
    (void)snprintf(text, sizeof text, "%s%s", place->text,
                   place->kind == WAL_PLACE_TORN       ? "; writes that were never acknowledged"
                   : place->kind == WAL_PLACE_HARMLESS ? "; it hides no write"
                                                       : "");
    tell(salvage, place->kind == WAL_PLACE_LOST && place->lost > 0 ? SALVAGE_LOST : SALVAGE_NOTE,
         &(struct check_finding){.problem = place->kind != WAL_PLACE_TORN,
                                 .file = place->file,
                                 .offset = place->offset,
                                 .first_seq = place->first_seq,
                                 .last_seq = place->last_seq,
                                 .keys = place->keys,
                                 .n_keys = place->n_keys,
                                 .records = place->lost,
                                 .text = text});
}

static enum err take_log(struct salvage *salvage)
{
    struct wal_rescue_file *files;
    struct wal_rescued rescued;
    size_t n;
    enum err err = salvage_source_take_segments(&salvage->source, &files, &n);
    if (err != ERR_OK) {
        return err;
    }
    salvage->summary->segments = n;
    err = wal_rescue(salvage->source.dir, salvage->source.store_id, files, n, salvage->last_seq,
                     salvage->source.has_manifest ? salvage->last_seq + 1 : 1, take_log_record,
                     tell_place, salvage, &rescued, salvage->detail);
    free(files);
    if (err == ERR_OK) {
        salvage->last_seq = rescued.next_seq - 1;
        err = spill_batch(salvage);
    }
    return err;
}

/* --- Merging ---------------------------------------------------------------------------------- */

static void on_damage(void *arg, const struct salvage_input *input, const struct rescue_item *item,
                      bool bounded)
{
    struct table_key reads = {.size = (uint16_t)item->reads.size};
    if (item->reads.size > 0) {
        memcpy(reads.data, item->reads.data, item->reads.size);
    }
    tell(arg, SALVAGE_LOST,
         &(struct check_finding){.problem = true,
                                 .file = input->name,
                                 .offset = item->offset,
                                 .has_keys = bounded || item->first_key.size > 0,
                                 .first_key = item->first_key,
                                 .end_key = item->end_key,
                                 .keys = &reads,
                                 .n_keys = reads.size > 0,
                                 .records = item->records,
                                 .text = item->text});
}

static void on_older(void *arg, const struct salvage_input *hider, uint64_t offset,
                     const struct record *record)
{
    struct salvage *salvage = arg;
    uint8_t end[RECORD_KEY_MAX_BYTES + 1] = {0};
    char text[128];
    memcpy(end, record->payload, record->key_size);
    (void)snprintf(text, sizeof text,
                   "a newer version may have stood here; that of number %" PRIu64 " is %s",
                   record->seq, salvage->options.older ? "copied" : "left out");
    tell(salvage, SALVAGE_OLDER,
         &(struct check_finding){.problem = true,
                                 .file = hider->name,
                                 .offset = offset,
                                 .has_keys = true,
                                 .first_key = record_key(record),
                                 .end_key = bytes_of(end, record->key_size + UINT64_C(1)),
                                 .text = text});
}

static enum err on_record(void *arg, const struct record *record, bool newer_may_be_lost)
{
    struct salvage *salvage = arg;
    salvage->last_seq = record->seq > salvage->last_seq ? record->seq : salvage->last_seq;
    if (record->kind != RECORD_PUT || (newer_may_be_lost && !salvage->options.older)) {
        return ERR_OK;
    }
    enum err err = add_to_table(salvage, record);
    salvage->summary->keys += err == ERR_OK;
    if (err == ERR_OK && table_writer_bytes(salvage->writer) >= COMPACTION_TABLE_BYTES) {
        err = finish_output(salvage);
    }
    return err;
}

static enum err merge_all(struct salvage *salvage)
{
    const struct salvage_sink sink = {
        .damage = on_damage, .older = on_older, .record = on_record, .arg = salvage};
    enum err err =
        salvage_merge(salvage->source.runs, salvage->source.n_runs, &sink, salvage->detail);
    if (err == ERR_OK && salvage->writer) {
        err = finish_output(salvage);
    }
    for (size_t i = 0; err == ERR_OK && i < salvage->n_log_inputs; i++) {
        err = vfs_unlink(salvage->to, salvage->log_inputs[i]->name);
        err = err == ERR_OK ? ERR_OK : output_failed(salvage, err);
    }
    return err;
}

/* --- The whole -------------------------------------------------------------------------------- */

/* From here on the new directory can be opened. */
static enum err write_manifest(struct salvage *salvage)
{
    uint64_t clock_ms = engine_wall_ms();
    const struct manifest manifest = {
        .store_id = salvage->new_store_id,
        .epoch = engine_random_id(),
        .number = 1,
        .next_file = salvage->next_file,
        .covered_seq = salvage->last_seq,
        .clock_ms = salvage->source.manifest.clock_ms > clock_ms ? salvage->source.manifest.clock_ms
                                                                 : clock_ms,
        .tables = salvage->outputs,
        .n_tables = salvage->n_outputs,
    };
    enum manifest_stage stage;
    enum err err = vfs_dir_sync(salvage->to);
    if (err == ERR_OK) {
        err = manifest_store(salvage->to, &manifest, &stage);
    }
    return err == ERR_OK ? ERR_OK : output_failed(salvage, err);
}

static enum err run(struct salvage *salvage)
{
    enum err err = salvage_source_take_tables(&salvage->source);
    if (err == ERR_OK) {
        salvage->summary->tables = salvage->source.n_tables;
        salvage->last_seq = salvage->source.tables_seq;
        err = take_log(salvage);
    }
    if (err == ERR_OK) {
        salvage_source_tell_unused(&salvage->source);
        err = merge_all(salvage);
    }
    if (err == ERR_OK && salvage->last_seq > RECORD_SEQ_MAX / 2) {
        err_detail_set(salvage->detail,
                       "%s: a write has the number %" PRIu64 ", beyond what a store counts to",
                       salvage->options.from, salvage->last_seq);
        err = ERR_CORRUPT;
    }
    return err == ERR_OK ? write_manifest(salvage) : err;
}

/* Removes what was made, the manifest first. */
static void remove_output(struct salvage *salvage)
{
    char name[FILES_NAME_BYTES];
    (void)!vfs_unlink(salvage->to, FILES_MANIFEST);
    (void)!vfs_unlink(salvage->to, FILES_MANIFEST_NEXT);
    for (uint64_t number = 1; number < salvage->next_file; number++) {
        files_name(FILE_TABLE, number, name);
        (void)!vfs_unlink(salvage->to, name);
    }
}

static void release(struct salvage *salvage)
{
    table_writer_free(salvage->writer);
    empty_batch(salvage);
    free(salvage->batch);
    for (size_t i = 0; i < salvage->n_log_inputs; i++) {
        free(salvage->log_inputs[i]);
    }
    free(salvage->log_inputs);
    free(salvage->outputs);
    salvage_source_release(&salvage->source);
    vfs_dir_close(salvage->source.dir);
    vfs_dir_close(salvage->to);
}

static enum err open_from(struct salvage *salvage, const struct vfs *vfs)
{
    const char *path = salvage->options.from;
    enum err err = vfs_dir_open(vfs, path, false, &salvage->source.dir);
    if (err != ERR_OK) {
        err_detail_set(salvage->detail, "cannot open data directory %s: %s", path, strerror(errno));
        return err;
    }
    err = vfs_dir_lock(salvage->source.dir);
    if (err == ERR_LOCKED) {
        err_detail_set(salvage->detail,
                       "data directory %s is in use by another process; stop it first", path);
    } else if (err != ERR_OK) {
        err_detail_set(salvage->detail, "cannot lock data directory %s: %s", path, strerror(errno));
    }
    return err;
}

static bool is_foreign(void *arg, const char *name)
{
    *(bool *)arg = !files_is_anybodys(name);
    return !*(bool *)arg;
}

static enum err open_to(struct salvage *salvage, const struct vfs *vfs)
{
    const char *path = salvage->options.to;
    bool filled = false;
    enum err err = vfs_dir_open(vfs, path, true, &salvage->to);
    if (err == ERR_OK) {
        err = vfs_dir_list(salvage->to, is_foreign, &filled);
    }
    if (err == ERR_OK && filled) {
        err_detail_set(salvage->detail,
                       "%s isn't empty: give a directory that doesn't exist or is empty", path);
        return ERR_EXISTS;
    }
    if (err == ERR_OK) {
        err = vfs_dir_lock(salvage->to);
    }
    if (err != ERR_OK) {
        err_detail_set(salvage->detail, "cannot use directory %s: %s", path, strerror(errno));
    }
    return err;
}

enum err salvage_dir(const struct vfs *vfs, const struct salvage_options *options,
                     salvage_finding_fn *each, void *arg, struct salvage_summary *ret_summary,
                     struct err_detail *detail)
{
    struct salvage salvage = {
        .options = *options,
        .each = each,
        .arg = arg,
        .summary = ret_summary,
        .detail = detail,
        .source = {.path = options->from, .tell = tell, .arg = &salvage, .detail = detail},
        .new_store_id = engine_random_id(),
        .next_file = 1};
    *ret_summary = (struct salvage_summary){.tables = 0};
    enum err err = open_from(&salvage, vfs);
    if (err == ERR_OK) {
        err = salvage_source_look(&salvage.source);
    }
    if (err == ERR_OK) {
        err = open_to(&salvage, vfs);
    }
    if (err == ERR_OK) {
        err = run(&salvage);
        if (err != ERR_OK) {
            table_writer_free(salvage.writer);
            salvage.writer = NULL;
            remove_output(&salvage);
        }
    }
    release(&salvage);
    return err;
}
