// JPEG files through libjpeg, whose functions the caller hands over: its fatal errors, which must not return, jump back
// to the call, and nothing but this file is lost. Of its structures what comes first in version 6.2 of the interface
// with 64-bit pointers is known here; the library refuses callers whose structures have another size.
#include "native.h"

#include <setjmp.h>

enum { INFO = 632, WRITER = 520, ERRORS = 168, VERSION = 62, PARTS = 3, BLOCK_BYTES = 128, ROWS_AT_ONCE = 16 };
enum { GREY = 1, RGB = 2 };

// What both of its structures begin with.
typedef struct {
    void *errors, *memory, *progress, *client;
} Common;

typedef struct {
    void (*fatal)(Common *);
    void (*emit)(Common *, int);
    void (*output)(Common *);
    void *format, *reset;
    int code, parameters[20], level;
    long warnings;
} Errors;

typedef struct {
    Common common;
    int is_decompressor, state;
    void *source;
    unsigned width, height;
    int components, stored_space, space;
    unsigned scale[2];
    double gamma;
    int buffered, raw, transform, fancy, smooth, quantize, dither, two_pass, colours, passes[3];
    unsigned out_width, out_height;
    int out_components, out_values, at_once, actual_colours;
    void *map;
    unsigned row;
    int scan;
} Info;

typedef struct {
    void *functions[8];
    void *(*access)(void *, void *, unsigned, unsigned, int);
} Memory;

// The functions, in the order of `FUNCTIONS` of jpeg.py.
typedef struct {
    void *(*std_error)(void *);
    void (*create_reader)(void *, int, size_t);
    void (*from_memory)(void *, const uint8_t *, unsigned long);
    int (*read_header)(void *, int);
    int (*start)(void *);
    int (*consume)(void *);
    void **(*coefficients)(void *);
    int (*start_output)(void *, int);
    unsigned (*read_rows)(void *, uint8_t **, unsigned);
    unsigned (*skip_rows)(void *, unsigned);
    void (*crop)(void *, unsigned *, unsigned *);
    int (*finish_output)(void *);
    void (*destroy_reader)(void *);
    void (*create_writer)(void *, int, size_t);
    void (*into_memory)(void *, uint8_t **, unsigned long *);
    void (*copy_parameters)(void *, void *);
    void (*write_coefficients)(void *, void *);
    void (*finish_writing)(void *);
    void (*destroy_writer)(void *);
    void (*start_writing)(void *, int);
    unsigned (*write_rows)(void *, const uint8_t **, unsigned);
} Functions;

// A file between calls, in memory of the caller.
typedef struct {
    union {
        Info info;
        uint8_t reader[INFO];
    };
    union {
        Errors errors;
        uint8_t handler[ERRORS];
    };
    void **arrays;
    int created, cropped;
} File;

// A file that is being written.
typedef struct {
    union {
        // What the writer begins with, up to the space of its pixels, is laid out as in the reader.
        Info info;
        uint8_t bytes[WRITER];
        max_align_t aligned;
    };
    union {
        Errors errors;
        uint8_t handler[ERRORS];
    };
    int created;
} Writer;

#if UINTPTR_MAX > 0xFFFFFFFFu && !defined(_WIN32)
#define P3M_JPEG 1
_Static_assert(offsetof(Errors, warnings) == 128 && offsetof(Info, buffered) == 88 && offsetof(Info, row) == 168, "6.2");
#else
#define P3M_JPEG 0
#endif

// Bytes of a file's memory; 0 where libjpeg cannot be called from here.
P3M_API size_t p3m_jpeg_size(int level) {
    (void)level;
    return P3M_JPEG ? sizeof(File) : 0;
}

#if P3M_JPEG

_Noreturn static void give_up(Common *common) { longjmp(*(jmp_buf *)common->client, 1); }

static void silent(Common *common) { (void)common; }

// In whichever function sets a jump, what changes before it is used again after a jump lies in its caller's memory:
// the language does not say what a local variable holds then.
static void attach(const Functions *library, Common *common, Errors *errors, jmp_buf *back) {
    common->errors = library->std_error(errors);
    common->client = back;
    errors->fatal = give_up;
    errors->output = silent;
}

// Decodes the entropy coding of a file of `parts` components with `rows[i]` rows of blocks each, and tells where their
// coefficients lie and how many bytes apart their rows are. 1 if all went well and the library has nothing to remark; a
// `blank` file may lack its image data, whose coefficients are 0. `data` must stay until the file is closed.
P3M_API int p3m_jpeg_open(int level, const Functions *library, File *file, const uint8_t *data, size_t size, int blank,
                          int parts, const int *rows, int16_t **begin, ptrdiff_t *stride) {
    (void)level;
    jmp_buf back;
    memset(file, 0, sizeof *file);
    Info *info = &file->info;
    attach(library, &info->common, &file->errors, &back);
    if (setjmp(back)) return 0;
    library->create_reader(info, VERSION, INFO);
    file->created = 1;
    library->from_memory(info, data, (unsigned long)size);
    if (library->read_header(info, 1) != 1 || info->components != parts) return 0;
    info->buffered = 1;
    library->start(info);
    for (int got = 1; got != 2;) {
        got = library->consume(info);
        // Nothing is ever waited for: all of the file is there.
        if (got == 0) return 0;
    }
    file->arrays = library->coefficients(info);
    if (!blank && file->errors.warnings) return 0;
    const Memory *memory = info->common.memory;
    for (int i = 0; i < parts; i++) {
        begin[i] = *(int16_t **)memory->access(info, file->arrays[i], 0, 1, 1);
        stride[i] = 0;
        for (int y = 1; y < rows[i]; y++) {
            const int16_t *row = *(int16_t **)memory->access(info, file->arrays[i], (unsigned)y, 1, 1);
            const ptrdiff_t step = (const uint8_t *)row - (const uint8_t *)begin[i];
            if (y == 1) stride[i] = step;
            if (step != y * stride[i]) return 0;
        }
    }
    return 1;
}

// Pixels of `rows` rows from row `top` on, `out` having room for `stride` bytes a row. `skip` leaves out what comes
// before without decoding it, and decodes only the columns from `*left` on, `*columns` of them at least: what it tells
// there is what it decoded, and no other pixels of the file can be had afterwards. 1 if all went well.
P3M_API int p3m_jpeg_pixels(int level, const Functions *library, File *file, int top, int rows, int values, int skip,
                            unsigned *left, unsigned *columns, uint8_t *out, ptrdiff_t stride) {
    (void)level;
    jmp_buf back;
    Info *info = &file->info;
    info->common.client = &back;
    if (setjmp(back)) return 0;
    if (file->cropped) return 0;
    if (info->out_values != values || (size_t)stride < (size_t)info->out_width * (size_t)values) return 0;
    if ((unsigned)(top + rows) > info->out_height || *left + *columns > info->out_width) return 0;
    const long before = file->errors.warnings;
    library->start_output(info, info->scan);
    if (skip && *columns < info->out_width) {
        file->cropped = 1;
        library->crop(info, left, columns);
    }
    if (skip && top && library->skip_rows(info, (unsigned)top) != (unsigned)top) return 0;
    while (info->row < (unsigned)(top + rows)) {
        uint8_t *at[ROWS_AT_ONCE];
        // Rows that nobody asked for come to lie in the first one, which is written last.
        for (int i = 0; i < ROWS_AT_ONCE; i++) {
            const int row = (int)info->row + i - top;
            at[i] = out + stride * (row < 0 ? 0 : row < rows ? row : rows - 1);
        }
        unsigned many = (info->row < (unsigned)top ? (unsigned)top : (unsigned)(top + rows)) - info->row;
        if (many > ROWS_AT_ONCE) many = ROWS_AT_ONCE;
        if (library->read_rows(info, at, many) == 0) return 0;
    }
    library->finish_output(info);
    return file->errors.warnings == before;
}

static void destroy(void (*by)(void *), Common *common) {
    jmp_buf back;
    common->client = &back;
    if (setjmp(back)) return;
    by(common);
}

static int written_by(const Functions *library, File *file, Writer *writer, const uint8_t *pixels, ptrdiff_t stride,
                      unsigned height, unsigned width, int values, uint8_t **made, unsigned long *size) {
    jmp_buf back;
    Info *info = &writer->info;
    attach(library, &info->common, &writer->errors, &back);
    file->info.common.client = &back;
    if (setjmp(back)) return 0;
    library->create_writer(info, VERSION, WRITER);
    writer->created = 1;
    library->into_memory(info, made, size);
    library->copy_parameters(&file->info, info);
    if (pixels == NULL) {
        library->write_coefficients(info, file->arrays);
    } else {
        info->width = width;
        info->height = height;
        info->components = values;
        info->stored_space = values == 3 ? RGB : GREY;
        library->start_writing(info, 1);
        for (unsigned row = 0; row < height;) {
            const uint8_t *at[ROWS_AT_ONCE];
            unsigned many = 0;
            for (; many < ROWS_AT_ONCE && row + many < height; many++) at[many] = pixels + stride * (row + many);
            const unsigned written = library->write_rows(info, at, many);
            if (written == 0) return 0;
            row += written;
        }
    }
    library->finish_writing(info);
    return 1;
}

// What both ways of writing share: see `p3m_jpeg_encode`, and `p3m_jpeg_write` where there are pixels.
static int write_file(const Functions *library, File *file, const uint8_t *pixels, ptrdiff_t stride, unsigned height,
                      unsigned width, int values, uint8_t **made, unsigned long *size) {
    Writer writer;
    memset(&writer, 0, sizeof writer);
    const int done = written_by(library, file, &writer, pixels, stride, height, width, values, made, size);
    if (writer.created) destroy(library->destroy_writer, &writer.info.common);
    return done;
}

// A sequential file of the coefficients as they are now. `*made` and `*size` tell of memory that may be used, and then
// where the file lies: there, or in memory that is to be freed. 1 if all went well.
P3M_API int p3m_jpeg_encode(int level, const Functions *library, File *file, uint8_t **made, unsigned long *size) {
    (void)level;
    return write_file(library, file, NULL, 0, 0, 0, 0, made, size);
}

// The same of other pixels, 1 (grey) or 3 (RGB) `values` each, with the tables and the sampling of the file.
P3M_API int p3m_jpeg_write(int level, const Functions *library, File *file, const uint8_t *pixels, ptrdiff_t stride,
                           unsigned height, unsigned width, int values, uint8_t **made, unsigned long *size) {
    (void)level;
    if (file->info.components != values) return 0;
    return write_file(library, file, pixels, stride, height, width, values, made, size);
}

P3M_API void p3m_jpeg_close(int level, const Functions *library, File *file) {
    (void)level;
    if (file->created) destroy(library->destroy_reader, &file->info.common);
    file->created = 0;
}

#endif

// Which of rows x columns blocks of 64 coefficients differ, 1 or 0 each; rows lie `stride` bytes apart.
P3M_API void p3m_blocks_differ(int level, const uint8_t *one, ptrdiff_t one_stride, const uint8_t *other,
                               ptrdiff_t other_stride, int rows, int columns, uint8_t *differ) {
    (void)level;
    for (int y = 0; y < rows; y++) {
        const uint8_t *a = one + y * one_stride, *b = other + y * other_stride;
        uint8_t *out = differ + (size_t)y * (size_t)columns;
        if (memcmp(a, b, (size_t)columns * BLOCK_BYTES) == 0) {
            memset(out, 0, (size_t)columns);
            continue;
        }
        for (int x = 0; x < columns; x++)
            out[x] = memcmp(a + (size_t)x * BLOCK_BYTES, b + (size_t)x * BLOCK_BYTES, BLOCK_BYTES) != 0;
    }
}

// Exchanges the chosen ones of rows x columns blocks, whose rows are `stride` bytes apart, with those that `others` has
// one after another.
P3M_API void p3m_exchange(int level, uint8_t *plane, ptrdiff_t stride, int rows, int columns, const uint8_t *chosen,
                          uint8_t *others) {
    (void)level;
    uint8_t kept[BLOCK_BYTES];
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < columns; x++) {
            if (!chosen[(size_t)y * (size_t)columns + (size_t)x]) continue;
            uint8_t *block = plane + y * stride + (ptrdiff_t)x * BLOCK_BYTES;
            memcpy(kept, block, BLOCK_BYTES);
            memcpy(block, others, BLOCK_BYTES);
            memcpy(others, kept, BLOCK_BYTES);
            others += BLOCK_BYTES;
        }
}
