// Packet FIFO: words are written on approval and can be read only once they were committed.
//
//   wr --> [ RAM, Depth words ] --> ram_data_q --> rd_data_q --> rd
//            ^rd   ^commit  ^wr
//
// wr_commit_i publishes everything written so far, the word of the same cycle included;
// wr_rollback_i forgets everything since the last commit, the word of the same cycle included.
// A committed frame is read without gaps. The RAM's read is synchronous, so it maps to block RAM,
// whose slow output has a register of its own: a word or two wait behind the RAM.
// Latency from commit to rd_valid_o 3 cycles, throughput one word a cycle each way.
// Assumes that the writer does not write when wr_full_o, nor commit and roll back at once.
// flush_i empties it in one cycle; what is written in that cycle is lost.

`default_nettype none

module stream_fifo #(
  parameter int unsigned Width = 64,
  parameter int unsigned Depth = 512,   // a power of two
  localparam int unsigned PtrW = $clog2(Depth)
) (
  input  wire logic             clk_i,
  input  wire logic             rst_ni,
  input  wire logic             flush_i,

  input  wire logic             wr_valid_i,
  input  wire logic [Width-1:0] wr_data_i,
  input  wire logic             wr_commit_i,
  input  wire logic             wr_rollback_i,
  output logic                  wr_full_o,
  output logic [PtrW:0]         wr_used_o,    // words in the RAM, uncommitted ones included

  output logic                  rd_valid_o,
  input  wire logic             rd_ready_i,
  output logic [Width-1:0]      rd_data_o,
  output logic                  empty_o       // nothing is in it, not even uncommitted words
);

  if (Depth < 2 || (Depth & (Depth - 1)) != 0) begin : gen_depth_check
    $error("stream_fifo: Depth must be a power of two");
  end

  // Pointers have one bit more than an address: equal means empty, Depth apart means full.
  logic [PtrW:0] wr_q;
  logic [PtrW:0] wr_d;
  logic [PtrW:0] commit_q;
  logic [PtrW:0] rd_q;

  logic [Width-1:0] mem_q [Depth];
  logic [Width-1:0] ram_data_q;
  logic [Width-1:0] rd_data_q;
  logic             ram_valid_q;
  logic             rd_valid_q;
  logic             ram_en;
  logic             rd_en;

  assign wr_used_o = wr_q - rd_q;
  assign wr_full_o = wr_used_o[PtrW];
  assign rd_en     = ram_valid_q && (!rd_valid_q || rd_ready_i);
  assign ram_en    = (rd_q != commit_q) && (!ram_valid_q || rd_en);
  assign empty_o   = (wr_q == rd_q) && !ram_valid_q && !rd_valid_q;

  always_comb begin
    wr_d = wr_q;
    if (wr_valid_i) wr_d = wr_q + 1'b1;
    if (wr_rollback_i) wr_d = commit_q;
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni || flush_i) begin
      wr_q        <= '0;
      commit_q    <= '0;
      rd_q        <= '0;
      ram_valid_q <= 1'b0;
      rd_valid_q  <= 1'b0;
    end else begin
      wr_q <= wr_d;
      if (wr_commit_i) commit_q <= wr_d;
      if (ram_en) rd_q <= rd_q + 1'b1;
      if (ram_en) ram_valid_q <= 1'b1;
      else if (rd_en) ram_valid_q <= 1'b0;
      if (rd_en) rd_valid_q <= 1'b1;
      else if (rd_ready_i) rd_valid_q <= 1'b0;
    end
  end

  // Without reset, so that it is a RAM.
  always_ff @(posedge clk_i) begin
    if (wr_valid_i) mem_q[wr_q[PtrW-1:0]] <= wr_data_i;
    if (ram_en) ram_data_q <= mem_q[rd_q[PtrW-1:0]];
    if (rd_en) rd_data_q <= ram_data_q;
  end

  assign rd_valid_o = rd_valid_q;
  assign rd_data_o  = rd_data_q;

  // Properties.
  logic             past_stalled_q;
  logic [Width-1:0] past_data_q;
  logic [PtrW:0]    committed;
  assign committed = commit_q - rd_q;
  always_ff @(posedge clk_i) begin
    past_stalled_q <= rst_ni && !flush_i && rd_valid_o && !rd_ready_i;
    past_data_q    <= rd_data_o;
    if (rst_ni) begin
      // Of the writer.
      assert (!(wr_valid_i && wr_full_o) || flush_i);
      assert (!(wr_commit_i && wr_rollback_i) || flush_i);
      // Of this block: rd <= commit <= wr <= rd + Depth.
      assert (wr_used_o <= (PtrW + 1)'(Depth));
      assert (committed <= wr_used_o);
      if (past_stalled_q) begin
        assert (rd_valid_o);
        assert (rd_data_o == past_data_q);
      end
    end
  end

endmodule

`default_nettype wire
