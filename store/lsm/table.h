/*
 * table.h - immutable sorted tables (SSTables): writing one, and reading one through its map.
 *
 * Layout (FORMAT.md, "Table"): header block, records in key order cut into blocks, index, filter,
 * properties, footer. A table holds at most one version of a key. Never changed once it is
 * finished, only unlinked; the map lives until the last reference.
 *
 * A block is a run of whole records, about a page of small ones or one large one, whose
 * value then begins on a page boundary. The first touch of a block verifies all of it: each
 * record's checksum and the block's own from the index (seeded with the file's id), so that neither
 * a wrong byte nor an "absent" that rests on a damaged byte gets out. A bit per block remembers
 * that it was verified. Only the chunks of a value that is longer than RECORD_CHUNK_BYTES are left
 * for later, with a bit each: a list of keys must not read all values, and a range not all of one.
 *
 * A page may leave memory and come back from a disk that has rotted since: what was verified is no
 * longer what is read. So once a table has shown damage, to a lookup or to the scrubber, its bits
 * are ignored, and every lookup verifies what it is about to hand out. That is right whichever of
 * the two has the good bytes, memory or disk: good ones are served for as long as memory has them,
 * which lets people copy them away, and bad ones never are. One damaged block puts all of the table
 * in doubt, because a disk that has lost one block is likely to lose others.
 *
 * Reads of the map run under the SIGBUS guard; a page that can't be read is ERR_IO for that key.
 * Who reads bytes of records that came from the map does so under a guard over table_map().
 *
 * Threads:   writer and streams: one thread. Tables: any thread, lock-free.
 * Ownership: tables are reference-counted; records returned are valid as long as the table is. The
 *            directory outlives its tables, writers and streams.
 * Errors:    ERR_CORRUPT with file and offset in the detail; ERR_IO; ERR_NO_SPACE; ERR_NO_MEMORY.
 */
#ifndef VARVE_STORE_LSM_TABLE_H
#define VARVE_STORE_LSM_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/err.h"
#include "store/base/vfs.h"
#include "store/lsm/record.h"

#define TABLE_PAGE_BYTES    UINT64_C(4096) /* values from TABLE_ALIGNED_BYTES on begin on one */
#define TABLE_ALIGNED_BYTES UINT64_C(65536)

/* A key by value, as manifests and properties keep it. */
struct table_key {
    uint16_t size;
    uint8_t data[RECORD_KEY_MAX_BYTES];
};

/* What the manifest says of a table and what its properties must agree with. */
struct table_info {
    uint64_t number;
    uint64_t file_id;
    uint64_t size_bytes; /* of the whole file */
    uint64_t records;    /* delete markers included */
    uint64_t markers;    /* delete markers */
    uint64_t min_seq, max_seq;
    uint64_t data_bytes;      /* of the records */
    uint32_t footer_checksum; /* of the footer, which covers the other regions' checksums */
    struct table_key smallest, largest;
};

/* Whether a table can be like this: nothing 0 that can't be, ranges not upside down. */
bool table_info_is_plausible(const struct table_info *info);

/* --- Writing ---------------------------------------------------------------------------------- */

struct table_writer;

/* Creates the file of table `number`. May block. */
MUST_USE enum err table_writer_new(struct vfs_dir *dir, uint64_t number, uint64_t store_id,
                                   uint64_t file_id, struct table_writer **ret_writer);

/* Adds a record with a key above the last one's (ERR_CORRUPT if it isn't). It is verified first, so
 * that damage in memory or in an input never gets a new, valid table around it (ERR_CORRUPT). After
 * an error the writer is only good for table_writer_free(). May block. */
MUST_USE enum err table_writer_add(struct table_writer *writer, const struct record *record);

/* Bytes of the file so far: to decide when to begin the next one. */
uint64_t table_writer_bytes(const struct table_writer *writer);

/* Writes index, filter, properties and footer, and syncs the file; the caller syncs the directory.
 * At least one record was added. The writer stays to be freed. May block. */
MUST_USE enum err table_writer_finish(struct table_writer *writer, struct table_info *ret_info);

/* Frees the writer; an unfinished file is removed. NULL is allowed. */
void table_writer_free(struct table_writer *writer);

/* --- Reading through the map ------------------------------------------------------------------ */

struct table;

/* Maps table `number`; verifies header, footer, properties, index and filter, and that they agree
 * with `info` from the manifest. `info` may be NULL, and store_id 0 (any): for check and dump. A
 * missing file is ERR_NOT_FOUND. One reference, the caller's. May block. */
MUST_USE enum err table_open(struct vfs_dir *dir, uint64_t store_id, uint64_t number,
                             const struct table_info *info, struct table **ret_table,
                             struct err_detail *detail);

/* Any thread with a reference, or inside an RCU read section while the current view has one. */
void table_acquire(struct table *table);
/* True if it was the last reference: then the caller hands it to the thread that may do
 * table_free(). */
bool table_release(struct table *table);
/* Unmaps; if `obsolete` was set, unlinks the file. Nobody else has a reference. NULL is allowed.
 * May block. */
void table_free(struct table *table);
/* The file goes when the table does: no manifest names it any more. */
void table_set_obsolete(struct table *table);
bool table_is_obsolete(const struct table *table);

/* Marks the table as damaged; true the first time: whoever gets that tells the owner. From then on
 * nothing that was verified is trusted any more (see below). Any thread. */
bool table_set_damaged(struct table *table);
bool table_is_damaged(const struct table *table);

/* When all of the file was last verified on the disk, or that was tried in vain, by a clock of the
 * engine's; 0: not since it was opened. */
void table_set_verified_at(struct table *table, uint64_t moment);
uint64_t table_verified_at(const struct table *table);

/* A link for a list of tables whose last reference is gone. */
struct table **table_link(struct table *table);

const struct table_info *table_info(const struct table *table);

/* The whole file as it is mapped: what records from it lie in, the range for a SIGBUS guard. */
struct bytes table_map(const struct table *table);

/* The hash of a key that every table's filter uses: compute once per lookup. */
uint64_t table_hash(struct bytes key);

/* How much of a record is verified before it is handed out. */
enum table_depth {
    /* All but the value, if that is longer than RECORD_CHUNK_BYTES: for who wants key, number and
     * metadata. No byte of such a value may be shown before table_verify_value() covered it. */
    TABLE_HEAD,
    TABLE_WHOLE, /* every byte; reads all of the value if it wasn't verified before */
    /* Of table_get() only. As TABLE_HEAD, but ERR_BUSY where the key's block may have to come from
     * the disk. The system is asked for that only of blocks that were not verified yet, or are
     * large: of a small one, asking would cost more than it saves. */
    TABLE_AT_ONCE,
};

/* Finds `key`: *ret_record is the record (a delete marker counts) or NULL if it isn't there, which
 * was verified. ERR_CORRUPT or ERR_IO if that can't be told; ERR_BUSY with TABLE_AT_ONCE. Doesn't
 * allocate. */
MUST_USE enum err table_get(struct table *table, struct bytes key, uint64_t hash,
                            enum table_depth depth, const struct record **ret_record);

/* Verifies the chunks that hold `size` bytes from `offset` of the value, unless they were before;
 * nothing to do for a value of at most RECORD_CHUNK_BYTES. `record` came from this table, through
 * its map. Reads ahead of itself. ERR_CORRUPT, ERR_IO. May block. */
MUST_USE enum err table_verify_value(struct table *table, const struct record *record,
                                     uint64_t offset, uint64_t size);

/* Whether table_verify_value() would have nothing to do: then it doesn't block. */
bool table_value_is_verified(struct table *table, const struct record *record, uint64_t offset,
                             uint64_t size);

/* Brings a value that came from this table into memory, all of it, since what was verified may have
 * left memory again. ERR_IO; ERR_CORRUPT if it doesn't lie in the table. May block. */
MUST_USE enum err table_populate(struct table *table, struct bytes value);

/* The filter's counts since open: looked up, said yes, said yes in vain. Threads that count at the
 * same time may lose some. */
struct table_filter_counts {
    uint64_t lookups, positives, false_positives;
};
struct table_filter_counts table_filter_counts(const struct table *table);

/* Ordered walk through the map; a plain value, nothing to release. The record is verified to the
 * depth of the seek. NULL: past the end, before the begin, or after an error. */
struct table_iter {
    struct table *table;
    const struct record *record;
    uint64_t block; /* the record's… */
    uint32_t slot;  /* …and its place there */
    enum table_depth depth;
    uint64_t ahead; /* read ahead up to this offset of the file… */
    uint64_t step;  /* …and by so much the next time */
};
/* To the first record with a key ≥ `key` (size 0: the first of all). */
MUST_USE enum err table_iter_seek(struct table_iter *iter, struct table *table, struct bytes key,
                                  enum table_depth depth);
/* To the last record with a key < `key` (size 0: the last of all). */
MUST_USE enum err table_iter_seek_before(struct table_iter *iter, struct table *table,
                                         struct bytes key, enum table_depth depth);
/* From a record to the next one or the one before. */
MUST_USE enum err table_iter_next(struct table_iter *iter);
MUST_USE enum err table_iter_prev(struct table_iter *iter);

/* What a damaged table said last, for the event: "0000….table, offset 4096: …". */
void table_error_text(const struct table *table, char *ret_text, size_t size);

/* --- Reading in order through ordinary reads, for compaction, check and dump ------------------ */

struct table_stream;

/* Reads the table's records in key order with large buffered reads and cache hints, not through the
 * map; each block is verified, values too. What was read leaves the page cache, unless it is mapped
 * and in use. The table is borrowed for the stream's life. May block. */
MUST_USE enum err table_stream_new(struct vfs_dir *dir, struct table *table,
                                   struct table_stream **ret_stream);
/* *ret_record is the next one, valid until the next call, or NULL at the end. After an error the
 * stream is only good for table_stream_free(). May block. */
MUST_USE enum err table_stream_next(struct table_stream *stream, const struct record **ret_record,
                                    struct err_detail *detail);
void table_stream_free(struct table_stream *stream); /* NULL is allowed */

/* --- Verifying the disk, a slice at a time, for the scrubber ------------------------------------
 */

struct table_scrub;

/* Reads the file of an open table past the page cache, which keeps what it has and gets nothing new
 * (where the file system can't do that, with ordinary reads and hints). The table is borrowed.
 * ERR_NOT_FOUND if the file is gone. May block. */
MUST_USE enum err table_scrub_new(struct vfs_dir *dir, struct table *table,
                                  struct table_scrub **ret_scrub);

struct table_damage {
    struct err_detail detail; /* file, offset, what is wrong */
    struct err_detail keys;   /* "from "a" up to "b"", empty where not known */
};

/* Verifies about `slice_bytes` more; *ret_done: all of the file is good. In bounded memory, however
 * long the values are. ERR_CORRUPT or ERR_IO: it has met damage, which *ret_damage tells; if that
 * lies in index or filter, lookups make do without. The caller marks the table as damaged. After an
 * error the scrub is only good for table_scrub_free(). May block. */
MUST_USE enum err table_scrub_step(struct table_scrub *scrub, uint64_t slice_bytes, bool *ret_done,
                                   struct table_damage *ret_damage);

/* Bytes verified so far. */
uint64_t table_scrub_bytes(const struct table_scrub *scrub);
void table_scrub_free(struct table_scrub *scrub); /* NULL is allowed */

/* Reads all of the table, not through the map, and verifies every byte: blocks, values, order,
 * gaps, filter, separators, counts and ranges. Calls `bad` (may be NULL) for each damaged place
 * with its offset and the keys that it may hold, from first_key up to but without end_key (size 0:
 * to the end), and goes on. The detail has the first one. Returns ERR_CORRUPT if there was damage,
 * or ERR_IO if all of it was bytes that can't be read. What is read stays in the page cache. May
 * block. */
typedef void table_bad_fn(void *arg, uint64_t offset, struct bytes first_key, struct bytes end_key,
                          const char *text);
MUST_USE enum err table_verify(struct vfs_dir *dir, struct table *table, table_bad_fn *bad,
                               void *arg, struct err_detail *detail);

#endif
