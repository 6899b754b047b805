/*
 * salvage.c - from a damaged directory to a new one, in this order: look at every file's header;
 * find out which tables and segments count; sort what the log has into tables of the new directory;
 * merge all tables into the last level; write the manifest, without which the new directory can't
 * be opened.
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
#include "store/lsm/salvage_merge.h"
#include "store/lsm/table_format.h"
#include "store/lsm/wal_rescue.h"

#define LOG_BATCH_BYTES (UINT64_C(64) << 20) /* of the log that is sorted at once */

/* A table or segment that is there. */
struct found_file {
    char name[FILES_NAME_BYTES];
    enum file_kind kind;
    uint64_t named; /* number by its name */
    bool intact;    /* the header is, and so are: */
    uint64_t number, file_id, store_id;
    bool used;
};

struct salvage {
    struct salvage_options options;
    salvage_finding_fn *each;
    void *arg;
    struct salvage_summary *summary;
    struct err_detail *detail;
    struct vfs_dir *from, *to;

    bool failed_listing; /* out of memory while names were listed */
    struct found_file *files;
    size_t n_files, room_files;
    bool has_manifest;
    struct manifest manifest;
    uint64_t store_id; /* of the files that are read */

    struct salvage_input *inputs;
    size_t n_inputs;
    struct salvage_run *runs;
    size_t n_runs, room_runs;
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

static void tell(struct salvage *salvage, enum salvage_kind kind,
                 const struct check_finding *finding)
{
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

static void tell_text(struct salvage *salvage, enum salvage_kind kind, const char *file,
                      const struct err_detail *detail, enum err err, const char *then)
{
    char name[FILES_NAME_BYTES] = "";
    char text[sizeof detail->text + 256];
    uint64_t offset = 0;
    const char *said =
        detail->text[0] != '\0' ? check_take_place(detail->text, name, &offset) : err_text(err);
    (void)snprintf(text, sizeof text, "%s; %s", said, then);
    tell(salvage, kind,
         &(struct check_finding){.problem = true, .file = file, .offset = offset, .text = text});
}

/* Room for one more element of an array that grows. */
static bool make_room(void **array, size_t n, size_t *room, size_t size)
{
    if (n < *room) {
        return true;
    }
    size_t grown_room = n == 0 ? 16 : 2 * n;
    void *grown = realloc(*array, grown_room * size);
    if (!grown) {
        return false;
    }
    *array = grown;
    *room = grown_room;
    return true;
}

/* --- What is there ---------------------------------------------------------------------------- */

static bool list_file(void *arg, const char *name)
{
    struct salvage *salvage = arg;
    struct found_file file = {.used = false};
    if (!files_parse_name(name, &file.kind, &file.named)) {
        return true;
    }
    if (!make_room((void **)&salvage->files, salvage->n_files, &salvage->room_files, sizeof file)) {
        salvage->failed_listing = true;
        return false;
    }
    strncpy(file.name, name, sizeof file.name - 1);
    salvage->files[salvage->n_files++] = file;
    return true;
}

static int by_kind_and_number(const void *left, const void *right)
{
    const struct found_file *a = left;
    const struct found_file *b = right;
    if (a->kind != b->kind) {
        return a->kind < b->kind ? -1 : 1;
    }
    return a->named < b->named ? -1 : a->named > b->named;
}

/* Reads a file's header; all zeros if it can't be read. */
static void read_header(struct salvage *salvage, const char *name, struct file_header *ret_header)
{
    struct vfs_file *file;
    size_t got;
    memset(ret_header, 0, sizeof *ret_header);
    if (vfs_open(salvage->from, name, VFS_READ, &file) == ERR_OK) {
        if (vfs_read(file, 0, ret_header, sizeof *ret_header, &got) != ERR_OK) {
            memset(ret_header, 0, sizeof *ret_header);
        }
        vfs_close(file);
    }
}

/* An intact header of a later version means what this program can't know. */
static enum err take_header(struct salvage *salvage, struct found_file *file)
{
    struct file_header header;
    read_header(salvage, file->name, &header);
    if (!file_header_is_intact(&header)) {
        return ERR_OK;
    }
    enum err err =
        file_header_check(&header, file->kind, 0, UINT64_MAX, file->name, salvage->detail);
    if (err == ERR_OK) {
        file->intact = true;
        file->number = header.number;
        file->file_id = header.file_id;
        file->store_id = header.store_id;
    }
    return err == ERR_FORMAT ? err : ERR_OK;
}

static enum err look_at_files(struct salvage *salvage)
{
    enum err err = vfs_dir_list(salvage->from, list_file, salvage);
    if (err != ERR_OK) {
        err_detail_set(salvage->detail, "cannot list %s: %s", salvage->options.from,
                       strerror(errno));
        return err;
    }
    if (salvage->failed_listing) {
        return ERR_NO_MEMORY;
    }
    if (salvage->n_files > 0) {
        qsort(salvage->files, salvage->n_files, sizeof salvage->files[0], by_kind_and_number);
    }
    for (size_t i = 0; err == ERR_OK && i < salvage->n_files; i++) {
        err = take_header(salvage, &salvage->files[i]);
    }
    return err;
}

/* The id that most files have. */
static uint64_t guess_store_id(const struct salvage *salvage)
{
    uint64_t id = 0;
    size_t most = 0;
    for (size_t i = 0; i < salvage->n_files; i++) {
        size_t n = 0;
        for (size_t j = 0; salvage->files[i].intact && j < salvage->n_files; j++) {
            n += salvage->files[j].intact &&
                 salvage->files[j].store_id == salvage->files[i].store_id;
        }
        if (n > most) {
            most = n;
            id = salvage->files[i].store_id;
        }
    }
    return id;
}

/* Without a manifest everything is taken that is there. */
static enum err load_manifest(struct salvage *salvage)
{
    static const char without[] =
        "all tables and log segments that are there are taken: it can't be told whether one is "
        "missing, and what was deleted may be back if one was out of use";
    struct err_detail why = {""};
    struct file_header header;
    enum err err = manifest_load(salvage->from, &salvage->manifest, &why);

    salvage->has_manifest = err == ERR_OK;
    salvage->store_id = err == ERR_OK ? salvage->manifest.store_id : guess_store_id(salvage);
    if (err == ERR_OK || err == ERR_NO_MEMORY) {
        return err;
    }
    read_header(salvage, FILES_MANIFEST, &header);
    if (err == ERR_FORMAT && file_header_is_intact(&header)) {
        err_detail_set(salvage->detail, "%s", why.text);
        return err;
    }
    if (err == ERR_NOT_FOUND && salvage->n_files == 0) {
        err_detail_set(salvage->detail,
                       "%s has no " FILES_MANIFEST ", tables or log segments: there is nothing of "
                       "varve to salvage",
                       salvage->options.from);
        return err;
    }
    tell_text(salvage, SALVAGE_LOST, FILES_MANIFEST, &why, err, without);
    return ERR_OK;
}

/* --- Which tables count ----------------------------------------------------------------------- */

static struct found_file *find_named(struct salvage *salvage, enum file_kind kind, uint64_t number)
{
    for (size_t i = 0; i < salvage->n_files; i++) {
        if (salvage->files[i].kind == kind && salvage->files[i].named == number) {
            return &salvage->files[i];
        }
    }
    return NULL;
}

/* The file whose intact header says that it is this one, whatever its name. file_id 0: any. */
static struct found_file *find_by_header(struct salvage *salvage, enum file_kind kind,
                                         uint64_t number, uint64_t file_id)
{
    for (size_t i = 0; i < salvage->n_files; i++) {
        struct found_file *file = &salvage->files[i];
        if (file->kind == kind && file->intact && file->store_id == salvage->store_id &&
            file->number == number && (file_id == 0 || file->file_id == file_id)) {
            return file;
        }
    }
    return NULL;
}

/* The file that is meant: by its header, or by its name if the header is damaged. */
static struct found_file *find_file(struct salvage *salvage, enum file_kind kind, uint64_t number,
                                    uint64_t file_id, const char **ret_missing)
{
    struct found_file *named = find_named(salvage, kind, number);
    struct found_file *file = find_by_header(salvage, kind, number, file_id);

    *ret_missing = named ? "another file stands under this name, and the right one is missing"
                         : "the manifest names this file, and it is missing";
    if (!file && named && !named->intact) {
        file = named;
    }
    if (!file) {
        return NULL;
    }
    file->used = true;
    if (file->named != number) {
        char text[128];
        (void)snprintf(text, sizeof text,
                       "this is %016" PRIx64 " under another name; it is read all the same",
                       number);
        tell(salvage, SALVAGE_NOTE,
             &(struct check_finding){.problem = true, .file = file->name, .text = text});
    }
    return file;
}

/* Whether the index can be used, which proves what belongs into the table. */
static bool has_index(const struct salvage_input *input)
{
    struct table_rescue *rescue;
    if (table_rescue_open(input->dir, input->name, input->has_info ? &input->info : NULL, &rescue,
                          NULL) != ERR_OK) {
        return false;
    }
    bool proven = table_rescue_is_proven(rescue);
    table_rescue_free(rescue);
    return proven;
}

/* Says what is damaged of a table beside its records, which are read all the same. */
static void look_at_table(struct salvage *salvage, struct salvage_input *input, uint64_t number)
{
    struct err_detail why = {""};
    struct table *table;
    enum err err = table_open(salvage->from, salvage->store_id, number,
                              input->has_info ? &input->info : NULL, &table, &why);
    if (err == ERR_OK) {
        input->info = *table_info(table);
        input->has_info = true;
        table_free(table);
        return;
    }
    tell_text(salvage, input->has_info ? SALVAGE_NOTE : SALVAGE_LOST, input->name, &why, err,
              has_index(input) ? "its records are read all the same"
                               : "without its index, records are taken by their own checksums "
                                 "alone, as far as one follows the other");
}

static void add_named_table(struct salvage *salvage, const struct manifest_table *of)
{
    struct salvage_input *input = &salvage->inputs[salvage->n_inputs++];
    const struct found_file *file =
        find_file(salvage, FILE_TABLE, of->info.number, of->info.file_id, &input->text);
    input->dir = salvage->from;
    input->has_info = true;
    input->info = of->info;
    input->missing = !file;
    if (!file) {
        files_name(FILE_TABLE, of->info.number, input->name);
        return;
    }
    memcpy(input->name, file->name, sizeof input->name);
    salvage->summary->tables++;
    if (file->named == of->info.number) {
        look_at_table(salvage, input, of->info.number);
    }
}

static bool begins_new_run(const struct salvage *salvage, size_t i)
{
    uint32_t level = salvage->manifest.tables[i].level;
    return i == 0 || level == 0 || salvage->manifest.tables[i - 1].level != level;
}

static void take_named_tables(struct salvage *salvage)
{
    for (size_t i = 0; i < salvage->manifest.n_tables; i++) {
        if (begins_new_run(salvage, i)) {
            salvage->runs[salvage->n_runs] = (struct salvage_run){
                .inputs = &salvage->inputs[salvage->n_inputs], .age = salvage->n_runs + 1};
            salvage->n_runs++;
        }
        add_named_table(salvage, &salvage->manifest.tables[i]);
        salvage->runs[salvage->n_runs - 1].n++;
    }
}

static int by_smallest_key(const void *left, const void *right)
{
    const struct salvage_input *a = left;
    const struct salvage_input *b = right;
    if (!a->has_info || !b->has_info) {
        return (int)b->has_info - (int)a->has_info;
    }
    return bytes_compare(table_key_bytes(&a->info.smallest), table_key_bytes(&b->info.smallest));
}

/* Moves the next input that begins behind `end` to the place `to`; false if there is none. */
static bool move_next_behind(struct salvage *salvage, size_t to, const struct table_key *end)
{
    for (size_t i = to; i < salvage->n_inputs && salvage->inputs[i].has_info; i++) {
        if (bytes_compare(table_key_bytes(&salvage->inputs[i].info.smallest),
                          table_key_bytes(end)) > 0) {
            struct salvage_input next = salvage->inputs[i];
            memmove(&salvage->inputs[to + 1], &salvage->inputs[to],
                    (i - to) * sizeof salvage->inputs[0]);
            salvage->inputs[to] = next;
            return true;
        }
    }
    return false;
}

/* As few runs as there are tables over one key, so that few are open at a time. */
static void make_runs(struct salvage *salvage)
{
    if (salvage->n_inputs > 0) {
        qsort(salvage->inputs, salvage->n_inputs, sizeof salvage->inputs[0], by_smallest_key);
    }
    for (size_t i = 0; i < salvage->n_inputs;) {
        struct salvage_run *run = &salvage->runs[salvage->n_runs++];
        *run = (struct salvage_run){.inputs = &salvage->inputs[i], .n = 1};
        while (run->inputs[0].has_info &&
               move_next_behind(salvage, i + run->n, &run->inputs[run->n - 1].info.largest)) {
            run->n++;
        }
        i += run->n;
    }
}

static void take_all_tables(struct salvage *salvage)
{
    for (size_t i = 0; i < salvage->n_files; i++) {
        struct found_file *file = &salvage->files[i];
        if (file->kind != FILE_TABLE || (file->intact && file->store_id != salvage->store_id)) {
            continue;
        }
        struct salvage_input *input = &salvage->inputs[salvage->n_inputs++];
        input->dir = salvage->from;
        memcpy(input->name, file->name, sizeof input->name);
        file->used = true;
        salvage->summary->tables++;
        look_at_table(salvage, input, file->named);
    }
    make_runs(salvage);
}

static void tell_unused(struct salvage *salvage)
{
    for (size_t i = 0; i < salvage->n_files; i++) {
        const struct found_file *file = &salvage->files[i];
        bool foreign = file->intact && file->store_id != salvage->store_id;
        if (!file->used) {
            tell(salvage, SALVAGE_NOTE,
                 &(struct check_finding){
                     .problem = foreign,
                     .file = file->name,
                     .text = foreign ? "a file of another store; left out"
                                     : "the manifest doesn't name this file; left out"});
        }
    }
}

static enum err take_tables(struct salvage *salvage)
{
    size_t most = salvage->n_files + salvage->manifest.n_tables + 1;
    salvage->inputs = calloc(most, sizeof salvage->inputs[0]);
    salvage->runs = calloc(most, sizeof salvage->runs[0]);
    salvage->room_runs = most;
    if (!salvage->inputs || !salvage->runs) {
        return ERR_NO_MEMORY;
    }
    if (salvage->has_manifest) {
        take_named_tables(salvage);
    } else {
        take_all_tables(salvage);
    }
    for (size_t i = 0; i < salvage->n_inputs; i++) {
        uint64_t seq = salvage->inputs[i].has_info ? salvage->inputs[i].info.max_seq : 0;
        salvage->last_seq = seq > salvage->last_seq ? seq : salvage->last_seq;
    }
    if (salvage->has_manifest) {
        salvage->last_seq = salvage->manifest.covered_seq;
    }
    return ERR_OK;
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
    if (!make_room((void **)&salvage->outputs, salvage->n_outputs, &salvage->room_outputs,
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
    if (!make_room((void **)&salvage->runs, salvage->n_runs, &salvage->room_runs,
                   sizeof salvage->runs[0]) ||
        !make_room((void **)&salvage->log_inputs, salvage->n_log_inputs, &salvage->room_log_inputs,
                   sizeof salvage->log_inputs[0])) {
        return ERR_NO_MEMORY;
    }
    struct salvage_input *input = calloc(1, sizeof *input);
    if (!input) {
        return ERR_NO_MEMORY;
    }
    *input = (struct salvage_input){.dir = salvage->to, .has_info = true, .info = *info};
    files_name(FILE_TABLE, info->number, input->name);
    salvage->log_inputs[salvage->n_log_inputs++] = input;
    salvage->runs[salvage->n_runs++] = (struct salvage_run){.inputs = input, .n = 1};
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
    if (!make_room((void **)&salvage->batch, salvage->n_batch, &salvage->room_batch,
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

static int by_number(const void *left, const void *right)
{
    const struct wal_rescue_file *a = left;
    const struct wal_rescue_file *b = right;
    return a->number < b->number ? -1 : a->number > b->number;
}

/* The segments in order: those that the manifest names, or all. */
static enum err find_segments(struct salvage *salvage, struct wal_rescue_file **ret_files,
                              size_t *ret_n)
{
    const struct manifest *manifest = &salvage->manifest;
    struct wal_rescue_file *files =
        calloc(manifest->n_segments + salvage->n_files + 1, sizeof files[0]);
    size_t n = 0;
    if (!files) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; salvage->has_manifest && i < manifest->n_segments; i++) {
        const char *missing;
        const struct found_file *file =
            find_file(salvage, FILE_SEGMENT, manifest->segments[i], 0, &missing);
        files[n].number = manifest->segments[i];
        if (file) {
            memcpy(files[n].name, file->name, sizeof files[n].name);
        }
        n++;
    }
    for (size_t i = 0; !salvage->has_manifest && i < salvage->n_files; i++) {
        struct found_file *file = &salvage->files[i];
        if (file->kind == FILE_SEGMENT && (!file->intact || file->store_id == salvage->store_id)) {
            file->used = true;
            files[n].number = file->intact ? file->number : file->named;
            memcpy(files[n++].name, file->name, sizeof file->name);
        }
    }
    qsort(files, n, sizeof files[0], by_number);
    *ret_files = files;
    *ret_n = n;
    return ERR_OK;
}

static enum err take_log(struct salvage *salvage)
{
    struct wal_rescue_file *files;
    struct wal_rescued rescued;
    size_t n;
    enum err err = find_segments(salvage, &files, &n);
    if (err != ERR_OK) {
        return err;
    }
    salvage->summary->segments = n;
    err = wal_rescue(salvage->from, salvage->store_id, files, n, salvage->last_seq,
                     salvage->has_manifest ? salvage->last_seq + 1 : 1, take_log_record, tell_place,
                     salvage, &rescued, salvage->detail);
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
    enum err err = salvage_merge(salvage->runs, salvage->n_runs, &sink, salvage->detail);
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
        .clock_ms = salvage->manifest.clock_ms > clock_ms ? salvage->manifest.clock_ms : clock_ms,
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
    enum err err = take_tables(salvage);
    if (err == ERR_OK) {
        err = take_log(salvage);
    }
    if (err == ERR_OK) {
        tell_unused(salvage);
        err = merge_all(salvage);
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
    manifest_release(&salvage->manifest);
    free(salvage->files);
    free(salvage->inputs);
    free(salvage->runs);
    free(salvage->outputs);
    vfs_dir_close(salvage->from);
    vfs_dir_close(salvage->to);
}

static enum err open_from(struct salvage *salvage, const struct vfs *vfs)
{
    const char *path = salvage->options.from;
    enum err err = vfs_dir_open(vfs, path, false, &salvage->from);
    if (err != ERR_OK) {
        err_detail_set(salvage->detail, "cannot open data directory %s: %s", path, strerror(errno));
        return err;
    }
    err = vfs_dir_lock(salvage->from);
    if (err == ERR_LOCKED) {
        err_detail_set(salvage->detail,
                       "data directory %s is in use by another process; stop it first", path);
    } else if (err != ERR_OK) {
        err_detail_set(salvage->detail, "cannot lock data directory %s: %s", path, strerror(errno));
    }
    return err;
}

/* A new file system comes with a directory of its own. */
static bool is_foreign(void *arg, const char *name)
{
    *(bool *)arg = strcmp(name, "lost+found") != 0;
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
    struct salvage salvage = {.options = *options,
                              .each = each,
                              .arg = arg,
                              .summary = ret_summary,
                              .detail = detail,
                              .new_store_id = engine_random_id(),
                              .next_file = 1};
    *ret_summary = (struct salvage_summary){.tables = 0};
    enum err err = open_from(&salvage, vfs);
    if (err == ERR_OK) {
        err = look_at_files(&salvage);
    }
    if (err == ERR_OK) {
        err = load_manifest(&salvage);
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
