// Logs of nccl-tests (github.com/NVIDIA/nccl-tests), as text or JSON, read as sweeps.
#pragma once

#include <vector>

#include "sim/validation/sweep.h"

namespace longhaul {

/// True for standard output of nccl-tests (a line of column titles) and for its JSON (-J).
bool looks_like_nccl_tests(const SourceText& source);

/// One sweep per table. Columns are found by their titles, in old and new layouts; prefixes of
/// mpirun and srun, colours, CRLF and lines of other programs are passed over. Ranks tell hosts,
/// GPUs and their names; NCCL's INFO lines tell pins, version and adapters; the collective is taken
/// from the log, else from the file's name, else from bus over algorithm bandwidth where that
/// tells. What remains unknown becomes a skip_reason, never a guess without a note. Any bytes are
/// survived. Of JSON, the recorded environment is not kept: it may hold secrets.
std::vector<Sweep> read_nccl_tests(const SourcePtr& source, Diagnostics& diagnostics);

}  // namespace longhaul
