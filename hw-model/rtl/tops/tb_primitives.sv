// The stream primitives side by side, each with its own ports.

`default_nettype none

module tb_primitives #(
  parameter int unsigned Width       = 16,
  parameter int unsigned FifoDepth   = 5,
  parameter int unsigned StreamDepth = 16,
  parameter int unsigned Requesters  = 5,
  localparam int unsigned IdxW       = $clog2(Requesters),
  localparam int unsigned CountW     = $clog2(FifoDepth + 1),
  localparam int unsigned UsedW      = $clog2(StreamDepth) + 1
) (
  input  wire logic                  clk_i,
  input  wire logic                  rst_ni,

  input  wire logic                  skid_in_valid_i,
  output logic                       skid_in_ready_o,
  input  wire logic [Width-1:0]      skid_in_data_i,
  output logic                       skid_out_valid_o,
  input  wire logic                  skid_out_ready_i,
  output logic [Width-1:0]           skid_out_data_o,

  input  wire logic                  fifo_clear_i,
  input  wire logic                  fifo_in_valid_i,
  output logic                       fifo_in_ready_o,
  input  wire logic [Width-1:0]      fifo_in_data_i,
  output logic                       fifo_out_valid_o,
  input  wire logic                  fifo_out_ready_i,
  output logic [Width-1:0]           fifo_out_data_o,
  output logic [CountW-1:0]          fifo_count_o,

  input  wire logic [Requesters-1:0] arb_req_i,
  output logic [Requesters-1:0]      arb_gnt_o,
  output logic [IdxW-1:0]            arb_idx_o,
  output logic                       arb_valid_o,
  input  wire logic                  arb_ready_i,

  input  wire logic                  stream_flush_i,
  input  wire logic                  stream_wr_valid_i,
  input  wire logic [Width-1:0]      stream_wr_data_i,
  input  wire logic                  stream_wr_commit_i,
  input  wire logic                  stream_wr_rollback_i,
  output logic                       stream_wr_full_o,
  output logic [UsedW-1:0]           stream_wr_used_o,
  output logic                       stream_rd_valid_o,
  input  wire logic                  stream_rd_ready_i,
  output logic [Width-1:0]           stream_rd_data_o,
  output logic                       stream_empty_o
);

  skid_buffer #(
    .Width(Width)
  ) u_skid (
    .clk_i,
    .rst_ni,
    .in_valid_i  (skid_in_valid_i),
    .in_ready_o  (skid_in_ready_o),
    .in_data_i   (skid_in_data_i),
    .out_valid_o (skid_out_valid_o),
    .out_ready_i (skid_out_ready_i),
    .out_data_o  (skid_out_data_o)
  );

  sync_fifo #(
    .Width(Width),
    .Depth(FifoDepth)
  ) u_fifo (
    .clk_i,
    .rst_ni,
    .clear_i     (fifo_clear_i),
    .in_valid_i  (fifo_in_valid_i),
    .in_ready_o  (fifo_in_ready_o),
    .in_data_i   (fifo_in_data_i),
    .out_valid_o (fifo_out_valid_o),
    .out_ready_i (fifo_out_ready_i),
    .out_data_o  (fifo_out_data_o),
    .count_o     (fifo_count_o)
  );

  rr_arbiter #(
    .N(Requesters)
  ) u_arb (
    .clk_i,
    .rst_ni,
    .req_i   (arb_req_i),
    .gnt_o   (arb_gnt_o),
    .idx_o   (arb_idx_o),
    .valid_o (arb_valid_o),
    .ready_i (arb_ready_i)
  );

  stream_fifo #(
    .Width(Width),
    .Depth(StreamDepth)
  ) u_stream (
    .clk_i,
    .rst_ni,
    .flush_i       (stream_flush_i),
    .wr_valid_i    (stream_wr_valid_i),
    .wr_data_i     (stream_wr_data_i),
    .wr_commit_i   (stream_wr_commit_i),
    .wr_rollback_i (stream_wr_rollback_i),
    .wr_full_o     (stream_wr_full_o),
    .wr_used_o     (stream_wr_used_o),
    .rd_valid_o    (stream_rd_valid_o),
    .rd_ready_i    (stream_rd_ready_i),
    .rd_data_o     (stream_rd_data_o),
    .empty_o       (stream_empty_o)
  );

endmodule

`default_nettype wire
