/* salvage_source.c - headers first, then the manifest, then the files that count by it. */
#include "store/lsm/salvage_source.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/table_format.h"

struct salvage_found {
    char name[FILES_NAME_BYTES];
    enum file_kind kind;
    uint64_t named; /* number by its name */
    bool intact;    /* the header is, and so are: */
    uint64_t number, file_id, store_id;
    bool used;
};

bool salvage_make_room(void **array, size_t n, size_t *room, size_t size)
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

static void tell_text(struct salvage_source *source, enum salvage_kind kind, const char *file,
                      const struct err_detail *detail, enum err err, const char *then)
{
    char name[FILES_NAME_BYTES] = "";
    char text[sizeof detail->text + 256];
    uint64_t offset = 0;
    const char *said =
        detail->text[0] != '\0' ? check_take_place(detail->text, name, &offset) : err_text(err);
    (void)snprintf(text, sizeof text, "%s; %s", said, then);
    source->tell(
        source->arg, kind,
        &(struct check_finding){.problem = true, .file = file, .offset = offset, .text = text});
}

/* --- What is there ---------------------------------------------------------------------------- */

static bool list_file(void *arg, const char *name)
{
    struct salvage_source *source = arg;
    struct salvage_found file = {.used = false};
    if (!files_parse_name(name, &file.kind, &file.named)) {
        return true;
    }
    if (!salvage_make_room((void **)&source->files, source->n_files, &source->room_files,
                           sizeof file)) {
        source->failed_listing = true;
        return false;
    }
    strncpy(file.name, name, sizeof file.name - 1);
    source->files[source->n_files++] = file;
    return true;
}

static int by_kind_and_number(const void *left, const void *right)
{
    const struct salvage_found *a = left;
    const struct salvage_found *b = right;
    if (a->kind != b->kind) {
        return a->kind < b->kind ? -1 : 1;
    }
    return a->named < b->named ? -1 : a->named > b->named;
}

/* Reads a file's header; all zeros if it can't be read. */
static void read_header(struct salvage_source *source, const char *name,
                        struct file_header *ret_header)
{
    struct vfs_file *file;
    size_t got;
    memset(ret_header, 0, sizeof *ret_header);
    if (vfs_open(source->dir, name, VFS_READ, &file) == ERR_OK) {
        if (vfs_read(file, 0, ret_header, sizeof *ret_header, &got) != ERR_OK) {
            memset(ret_header, 0, sizeof *ret_header);
        }
        vfs_close(file);
    }
}

/* An intact header of a later version means what this program can't know. */
static enum err take_header(struct salvage_source *source, struct salvage_found *file)
{
    struct file_header header;
    read_header(source, file->name, &header);
    if (!file_header_is_intact(&header)) {
        return ERR_OK;
    }
    enum err err =
        file_header_check(&header, file->kind, 0, UINT64_MAX, file->name, source->detail);
    if (err == ERR_OK) {
        file->intact = true;
        file->number = header.number;
        file->file_id = header.file_id;
        file->store_id = header.store_id;
    }
    return err == ERR_FORMAT ? err : ERR_OK;
}

static enum err look_at_files(struct salvage_source *source)
{
    enum err err = vfs_dir_list(source->dir, list_file, source);
    if (err != ERR_OK) {
        err_detail_set(source->detail, "cannot list %s: %s", source->path, strerror(errno));
        return err;
    }
    if (source->failed_listing) {
        return ERR_NO_MEMORY;
    }
    if (source->n_files > 0) {
        qsort(source->files, source->n_files, sizeof source->files[0], by_kind_and_number);
    }
    for (size_t i = 0; err == ERR_OK && i < source->n_files; i++) {
        err = take_header(source, &source->files[i]);
    }
    return err;
}

/* The id that most files have. */
static uint64_t guess_store_id(const struct salvage_source *source)
{
    uint64_t id = 0;
    size_t most = 0;
    for (size_t i = 0; i < source->n_files; i++) {
        size_t n = 0;
        for (size_t j = 0; source->files[i].intact && j < source->n_files; j++) {
            n += source->files[j].intact && source->files[j].store_id == source->files[i].store_id;
        }
        if (n > most) {
            most = n;
            id = source->files[i].store_id;
        }
    }
    return id;
}

/* Without a manifest everything is taken that is there. */
static enum err load_manifest(struct salvage_source *source)
{
    static const char without[] =
        "all tables and log segments that are there are taken: it can't be told whether one is "
        "missing, and what was deleted may be back if one was out of use";
    struct err_detail why = {""};
    struct file_header header;
    enum err err = manifest_load(source->dir, &source->manifest, &why);

    source->has_manifest = err == ERR_OK;
    source->store_id = err == ERR_OK ? source->manifest.store_id : guess_store_id(source);
    if (err == ERR_OK || err == ERR_NO_MEMORY) {
        return err;
    }
    read_header(source, FILES_MANIFEST, &header);
    if (err == ERR_FORMAT && file_header_is_intact(&header)) {
        err_detail_set(source->detail, "%s", why.text);
        return err;
    }
    if (err == ERR_NOT_FOUND && source->n_files == 0) {
        err_detail_set(source->detail,
                       "%s has no " FILES_MANIFEST ", tables or log segments: there is nothing of "
                       "varve to salvage",
                       source->path);
        return err;
    }
    tell_text(source, SALVAGE_LOST, FILES_MANIFEST, &why, err, without);
    return ERR_OK;
}

enum err salvage_source_look(struct salvage_source *source)
{
    enum err err = look_at_files(source);
    return err == ERR_OK ? load_manifest(source) : err;
}

/* --- Which tables count ----------------------------------------------------------------------- */

static struct salvage_found *find_named(struct salvage_source *source, enum file_kind kind,
                                        uint64_t number)
{
    for (size_t i = 0; i < source->n_files; i++) {
        if (source->files[i].kind == kind && source->files[i].named == number) {
            return &source->files[i];
        }
    }
    return NULL;
}

/* The file whose intact header says that it is this one, whatever its name. file_id 0: any. */
static struct salvage_found *find_by_header(struct salvage_source *source, enum file_kind kind,
                                            uint64_t number, uint64_t file_id)
{
    for (size_t i = 0; i < source->n_files; i++) {
        struct salvage_found *file = &source->files[i];
        if (file->kind == kind && file->intact && file->store_id == source->store_id &&
            file->number == number && (file_id == 0 || file->file_id == file_id)) {
            return file;
        }
    }
    return NULL;
}

/* The file that is meant: by its header, or by its name if the header is damaged. */
static struct salvage_found *find_file(struct salvage_source *source, enum file_kind kind,
                                       uint64_t number, uint64_t file_id, const char **ret_missing)
{
    struct salvage_found *named = find_named(source, kind, number);
    struct salvage_found *file = find_by_header(source, kind, number, file_id);

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
        source->tell(source->arg, SALVAGE_NOTE,
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
static void look_at_table(struct salvage_source *source, struct salvage_input *input,
                          uint64_t number)
{
    struct err_detail why = {""};
    struct table *table;
    enum err err = table_open(source->dir, source->store_id, number,
                              input->has_info ? &input->info : NULL, &table, &why);
    if (err == ERR_OK) {
        input->info = *table_info(table);
        input->has_info = true;
        table_free(table);
        return;
    }
    tell_text(source, input->has_info ? SALVAGE_NOTE : SALVAGE_LOST, input->name, &why, err,
              has_index(input) ? "its records are read all the same"
                               : "without its index, records are taken by their own checksums "
                                 "alone, as far as one follows the other");
}

static void add_named_table(struct salvage_source *source, const struct manifest_table *of)
{
    struct salvage_input *input = &source->inputs[source->n_inputs++];
    const struct salvage_found *file =
        find_file(source, FILE_TABLE, of->info.number, of->info.file_id, &input->text);
    input->dir = source->dir;
    input->has_info = true;
    input->info = of->info;
    input->missing = !file;
    if (!file) {
        files_name(FILE_TABLE, of->info.number, input->name);
        return;
    }
    memcpy(input->name, file->name, sizeof input->name);
    source->n_tables++;
    if (file->named == of->info.number) {
        look_at_table(source, input, of->info.number);
    }
}

static bool begins_new_run(const struct salvage_source *source, size_t i)
{
    uint32_t level = source->manifest.tables[i].level;
    return i == 0 || level == 0 || source->manifest.tables[i - 1].level != level;
}

static void take_named_tables(struct salvage_source *source)
{
    for (size_t i = 0; i < source->manifest.n_tables; i++) {
        if (begins_new_run(source, i)) {
            source->runs[source->n_runs] = (struct salvage_run){
                .inputs = &source->inputs[source->n_inputs], .age = source->n_runs + 1};
            source->n_runs++;
        }
        add_named_table(source, &source->manifest.tables[i]);
        source->runs[source->n_runs - 1].n++;
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
static bool move_next_behind(struct salvage_source *source, size_t to, const struct table_key *end)
{
    for (size_t i = to; i < source->n_inputs && source->inputs[i].has_info; i++) {
        if (bytes_compare(table_key_bytes(&source->inputs[i].info.smallest), table_key_bytes(end)) >
            0) {
            struct salvage_input next = source->inputs[i];
            memmove(&source->inputs[to + 1], &source->inputs[to],
                    (i - to) * sizeof source->inputs[0]);
            source->inputs[to] = next;
            return true;
        }
    }
    return false;
}

/* As few runs as there are tables over one key, so that few are open at a time. */
static void make_runs(struct salvage_source *source)
{
    if (source->n_inputs > 0) {
        qsort(source->inputs, source->n_inputs, sizeof source->inputs[0], by_smallest_key);
    }
    for (size_t i = 0; i < source->n_inputs;) {
        struct salvage_run *run = &source->runs[source->n_runs++];
        *run = (struct salvage_run){.inputs = &source->inputs[i], .n = 1};
        while (run->inputs[0].has_info &&
               move_next_behind(source, i + run->n, &run->inputs[run->n - 1].info.largest)) {
            run->n++;
        }
        i += run->n;
    }
}

static void take_all_tables(struct salvage_source *source)
{
    for (size_t i = 0; i < source->n_files; i++) {
        struct salvage_found *file = &source->files[i];
        if (file->kind != FILE_TABLE || (file->intact && file->store_id != source->store_id)) {
            continue;
        }
        struct salvage_input *input = &source->inputs[source->n_inputs++];
        input->dir = source->dir;
        memcpy(input->name, file->name, sizeof input->name);
        file->used = true;
        source->n_tables++;
        look_at_table(source, input, file->named);
    }
    make_runs(source);
}

enum err salvage_source_take_tables(struct salvage_source *source)
{
    size_t most = source->n_files + source->manifest.n_tables + 1;
    source->inputs = calloc(most, sizeof source->inputs[0]);
    source->runs = calloc(most, sizeof source->runs[0]);
    source->room_runs = most;
    if (!source->inputs || !source->runs) {
        return ERR_NO_MEMORY;
    }
    if (source->has_manifest) {
        take_named_tables(source);
    } else {
        take_all_tables(source);
    }
    for (size_t i = 0; i < source->n_inputs; i++) {
        uint64_t seq = source->inputs[i].has_info ? source->inputs[i].info.max_seq : 0;
        source->tables_seq = seq > source->tables_seq ? seq : source->tables_seq;
    }
    if (source->has_manifest) {
        source->tables_seq = source->manifest.covered_seq;
    }
    return ERR_OK;
}

/* --- Which segments count ----------------------------------------------------------------------
 */

static int by_number(const void *left, const void *right)
{
    const struct wal_rescue_file *a = left;
    const struct wal_rescue_file *b = right;
    return a->number < b->number ? -1 : a->number > b->number;
}

/* The segments in order: those that the manifest names, or all. */
enum err salvage_source_take_segments(struct salvage_source *source,
                                      struct wal_rescue_file **ret_files, size_t *ret_n)
{
    const struct manifest *manifest = &source->manifest;
    struct wal_rescue_file *files =
        calloc(manifest->n_segments + source->n_files + 1, sizeof files[0]);
    size_t n = 0;
    if (!files) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; source->has_manifest && i < manifest->n_segments; i++) {
        const char *missing;
        const struct salvage_found *file =
            find_file(source, FILE_SEGMENT, manifest->segments[i], 0, &missing);
        files[n].number = manifest->segments[i];
        if (file) {
            memcpy(files[n].name, file->name, sizeof files[n].name);
        }
        n++;
    }
    for (size_t i = 0; !source->has_manifest && i < source->n_files; i++) {
        struct salvage_found *file = &source->files[i];
        if (file->kind == FILE_SEGMENT && (!file->intact || file->store_id == source->store_id)) {
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

/* --- The rest --------------------------------------------------------------------------------- */

void salvage_source_tell_unused(struct salvage_source *source)
{
    for (size_t i = 0; i < source->n_files; i++) {
        const struct salvage_found *file = &source->files[i];
        bool foreign = file->intact && file->store_id != source->store_id;
        if (!file->used) {
            source->tell(source->arg, SALVAGE_NOTE,
                         &(struct check_finding){
                             .problem = foreign,
                             .file = file->name,
                             .text = foreign ? "a file of another store; left out"
                                             : "the manifest doesn't name this file; left out"});
        }
    }
}

void salvage_source_release(struct salvage_source *source)
{
    manifest_release(&source->manifest);
    free(source->files);
    free(source->inputs);
    free(source->runs);
}
